/** Who is in the pane: the sidebar's page, as in Outlook, or, beside Gmail and if the developer wants it so, the add-on's cards. */

/** @typedef {import("./host.js").Selected} Selected */

export class Guest {
  #office;
  #addOn;
  #wantsAddOn;
  /** @type {HTMLElement | null} */
  #container = null;
  #shown = "";

  /**
   * @param {import("./host.js").Host} office @param {import("./addon/add_on.js").AddOn} addOn
   * @param {() => string} wantsAddOn how the add-on shall run, "" for the sidebar
   */
  constructor(office, addOn, wantsAddOn) {
    this.#office = office;
    this.#addOn = addOn;
    this.#wantsAddOn = wantsAddOn;
  }

  get isOpen() {
    return this.#office.isOpen || this.#addOn.isOpen;
  }

  /** @param {HTMLElement} container */
  open(container) {
    this.close();
    this.#container = container;
    this.#shown = this.#wantsAddOn();
    (this.#shown ? this.#addOn : this.#office).open(container);
  }

  close() {
    this.#office.close();
    this.#addOn.close();
  }

  /** The developer chose another guest, perhaps. */
  choose() {
    if (this.isOpen && this.#container && this.#shown !== this.#wantsAddOn()) this.open(this.#container);
  }

  /** @param {Selected} selected */
  select(selected) {
    this.#office.select(selected);
    this.#addOn.select(selected);
  }

  /** @param {Selected} selected */
  refresh(selected) {
    this.#office.refresh(selected);
    this.#addOn.refresh(selected);
  }
}
