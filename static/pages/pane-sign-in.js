/** The last page of the pane's sign-in dialog: hands the token of its meta element to the pane, which then closes the window. */
void Office.onReady(() => {
  const meta = document.querySelector('meta[name="ssi-token"]');
  if (!(meta instanceof HTMLMetaElement) || !Office.context.ui) return; // opened without a mail client
  meta.remove();
  const message = JSON.stringify({ token: meta.content, expires_in_s: Number(meta.dataset.expiresInS) });
  const isTargeted = Office.context.requirements.isSetSupported("DialogOrigin", "1.1");
  Office.context.ui.messageParent(message, isTargeted ? { targetOrigin: location.origin } : undefined);
});
