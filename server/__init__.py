"""SSI Sidebar: SAP Cloud for Customer beside the e-mail it belongs to. Distribution `ssi-sidebar`."""
