/**
 * A stand-in for Microsoft's office.js, as Outlook on the web gives it to a task pane: the Mailbox 1.14 surface that a
 * sidebar uses, and nothing else. Reading a member that is not here throws, so that a misspelt or forbidden call is found
 * on the developer's machine and not in Outlook.
 *
 * The page that frames us (static/host.js) holds the mailbox, and decides how badly the host behaves; we talk to it by a
 * MessagePort that it hands over after a greeting, each side checking the other's origin. Members belong to requirement
 * sets: those above the set that the host announces are absent. Names and types are held against @types/office-js.
 *
 * Nested app authentication is MSAL.js talking to the host by `window.nestedAppAuthBridge`; here is that bridge's near end.
 *
 * Not here: appointments, roaming settings, custom properties, EWS calls, anything that changes a message in compose.
 */
(() => {
  "use strict";

  /** @typedef {{code: number, name: string, message: string}} Failure */
  /** @typedef {{name: string, address: string}} Party */
  /** @typedef {{id: string, name: string, size: number, contentType: string, contentId: string | null, inline: boolean}} Enclosed */
  /**
   * @typedef {{key: string, mode: "read", itemId: string | null, itemClass: string, subject: string, from: Party | null,
   *   sender: Party | null, to: Party[], cc: Party[], internetMessageId: string, conversationId: string, created: string,
   *   attachments: Enclosed[]}} ReadData
   */
  /** @typedef {{key: string, mode: "compose", conversationId: string | null, inReplyTo: string | null}} ComposeData */
  /** @typedef {ReadData | ComposeData} ItemData what the host tells about the selected item */
  /** @typedef {{background: string, text: string, control: string, controlText: string}} Theme */
  /**
   * @typedef {{kind: "pane" | "dialog", sets: Record<string, string>, hasBridge: boolean, profile: {name: string, address: string, timeZone: string,
   *   accountType: string}, language: string, theme: Theme, item: ItemData | null, version: string}} Welcome
   */
  /** @template T @typedef {(result: Office.AsyncResult<T>) => void} Callback */
  /**
   * A method with a callback, options before it being optional.
   * @template {any[]} Own @template T
   * @typedef {{(...args: [...Own, Callback<T>?]): void, (...args: [...Own, Office.AsyncContextOptions, Callback<T>?]): void}} Async
   */

  const SCRIPT = /** @type {HTMLScriptElement} */ (document.currentScript);
  const HOST_ORIGIN = new URL(SCRIPT.src).origin;
  const GREETING_MS = 10_000; // a page that is framed by somebody else gives up waiting for a host

  /** What the host must say before any script of the page runs travels in the frame's name. */
  const NAME = window.name.startsWith("{") ? JSON.parse(window.name) : {};

  /** @type {MessagePort | undefined} */
  let port;
  /** @type {Welcome | undefined} */
  let welcome;
  /** @type {unknown} */
  let item = null;
  /** @type {Theme | undefined} */
  let theme;
  let calls = 0;
  let tokenPending = false;
  /** @type {Map<number, {resolve: (value: any) => void, reject: (error: Failure) => void}>} */
  const waiting = new Map();
  /** @type {Map<string, ((event: any) => void)[]>} */
  const handlers = new Map();

  // -- Strictness -----------------------------------------------------------------------------------------------------

  /**
   * Make reading an unknown member an error that names it. Symbols, `then` and `toJSON` are asked for by the language.
   * @template {object} T @param {string} name @param {T} members @param {string[]} writable @returns {T}
   */
  function strict(name, members, writable = []) {
    return new Proxy(members, {
      get(target, key) {
        if (typeof key === "string" && !(key in target) && key !== "then" && key !== "toJSON") {
          throw new Error(`${name}.${key} is not a member this host has`);
        }
        return Reflect.get(target, key);
      },
      set(target, key, value) {
        if (typeof key === "string" && !writable.includes(key)) throw new Error(`${name}.${key} cannot be set`);
        return Reflect.set(target, key, value);
      },
    });
  }

  /** @param {string} have @param {string} want */
  function reaches(have, want) {
    const [a, b] = [have, want].map((version) => version.split(".").map(Number));
    return a[0] > b[0] || (a[0] === b[0] && (a[1] ?? 0) >= (b[1] ?? 0));
  }

  /**
   * Keep the members that the host's Mailbox set has. `since` names the set of each member that is newer than 1.3.
   * @template {object} T @param {T} members @param {Partial<Record<keyof T, string>>} since @returns {T}
   */
  function limited(members, since) {
    const kept = Object.entries(Object.getOwnPropertyDescriptors(members)).filter(
      ([key]) => reaches(welcome?.sets.Mailbox ?? "1.0", since[/** @type {keyof T} */ (key)] ?? "1.1"),
    );
    return /** @type {T} */ (Object.defineProperties({}, Object.fromEntries(kept)));
  }

  // -- Calls to the host ----------------------------------------------------------------------------------------------

  /** @param {string} call @param {any[]} args @param {string | null} [item] the key of the item that is meant @returns {Promise<any>} */
  function ask(call, args = [], item = null) {
    return new Promise((resolve, reject) => {
      calls += 1;
      waiting.set(calls, { resolve, reject });
      port?.postMessage({ id: calls, call, args, item });
    });
  }

  /**
   * Turn a promise into an Office.js method with `own` arguments, options and callback. Results are always delivered later.
   * @template {any[]} Own @template T
   * @param {number} own @param {(...args: Own) => Promise<T> | T} work @returns {Async<Own, T>}
   */
  function method(own, work) {
    return (/** @type {any[]} */ ...args) => {
      const rest = args.slice(own);
      const callback = rest.find((arg) => typeof arg === "function");
      const asyncContext = rest.find((arg) => arg && typeof arg === "object")?.asyncContext;
      const outcome = (async () => work(.../** @type {Own} */ (args.slice(0, own))))();
      outcome.then(
        (value) => callback?.({ status: "succeeded", value, error: undefined, asyncContext, diagnostics: undefined }),
        (error) => {
          if (typeof error?.code !== "number") throw error;
          callback?.({ status: "failed", value: undefined, error, asyncContext, diagnostics: undefined });
        },
      );
    };
  }

  /** @param {number} code @param {string} name @param {string} message @returns {Failure} */
  const failure = (code, name, message) => ({ code, name, message });

  /** @param {string} type @param {object} details */
  function raise(type, details = {}) {
    for (const handler of [...(handlers.get(type) ?? [])]) handler({ type, ...details });
  }

  /** @param {string[]} known event types */
  function subscriptions(known) {
    const check = (/** @type {string} */ type) => {
      if (!known.includes(type)) throw failure(5010, "EventNotSupported", "The event type is not supported by this object.");
    };
    return {
      addHandlerAsync: method(2, (/** @type {any} */ type, /** @type {any} */ handler) => {
        check(type);
        handlers.set(type, [...(handlers.get(type) ?? []), handler]);
      }),
      removeHandlerAsync: method(1, (/** @type {any} */ type) => {
        check(type);
        handlers.delete(type);
      }),
    };
  }

  // -- Enumerations ---------------------------------------------------------------------------------------------------

  const EventType = strict("Office.EventType", {
    ItemChanged: "olkItemSelectedChanged",
    RecipientsChanged: "olkRecipientsChanged",
    AttachmentsChanged: "olkAttachmentsChanged",
    OfficeThemeChanged: "officeThemeChanged",
    DialogMessageReceived: "dialogMessageReceived",
    DialogEventReceived: "dialogEventReceived",
    DialogParentMessageReceived: "dialogParentMessageReceived",
  });
  const CategoryColor = { None: "None", ...Object.fromEntries([...Array(25).keys()].map((n) => [`Preset${n}`, `Preset${n}`])) };
  const MailboxEnums = strict("Office.MailboxEnums", {
    ItemType: strict("Office.MailboxEnums.ItemType", { Message: "message", Appointment: "appointment" }),
    RestVersion: strict("Office.MailboxEnums.RestVersion", { v1_0: "v1.0", v2_0: "v2.0", Beta: "beta" }),
    RecipientType: strict("Office.MailboxEnums.RecipientType", {
      DistributionList: "distributionList", User: "user", ExternalUser: "externalUser", Other: "other",
    }),
    AttachmentType: strict("Office.MailboxEnums.AttachmentType", { File: "file", Item: "item", Cloud: "cloud", Base64: "base64" }),
    AttachmentContentFormat: strict("Office.MailboxEnums.AttachmentContentFormat", {
      Base64: "base64", Url: "url", Eml: "eml", ICalendar: "iCalendar",
    }),
    ComposeType: strict("Office.MailboxEnums.ComposeType", { Reply: "reply", NewMail: "newMail", Forward: "forward" }),
    CategoryColor: strict("Office.MailboxEnums.CategoryColor", CategoryColor),
  });

  // -- Item -----------------------------------------------------------------------------------------------------------

  /** @param {Party} party @returns {Office.EmailAddressDetails} */
  function addressDetails(party) {
    const domain = (/** @type {string} */ address) => address.toLowerCase().split("@").at(-1);
    const inside = domain(party.address) === domain(welcome?.profile.address ?? "");
    return strict("EmailAddressDetails", {
      displayName: party.name || party.address,
      emailAddress: party.address,
      recipientType: inside ? "user" : "externalUser",
      appointmentResponse: "none",
    });
  }

  /** @param {Enclosed} file @returns {Office.AttachmentDetails} */
  function attachmentDetails(file) {
    return strict("AttachmentDetails", {
      id: file.id,
      name: file.name,
      size: file.size,
      contentType: file.contentType,
      contentId: file.contentId ?? "",
      isInline: file.inline,
      attachmentType: file.contentType === "message/rfc822" ? "item" : "file",
    });
  }

  /** @param {string} subject without the prefixes of replies and forwards, as Outlook normalises it */
  const normalized = (subject) => subject.replace(/^(\s*[\p{L}]{1,3}(\[\d+\])?:\s*)+/u, "");

  /** @param {{name: string, color: string}[]} list @returns {Office.CategoryDetails[]} */
  const categoryDetails = (list) =>
    list.map(({ name, color }) =>
      strict("CategoryDetails", { displayName: name, color: color === "none" ? "None" : color.replace("p", "P") }));

  /**
   * @typedef {Pick<Office.MessageRead, "itemId" | "itemType" | "itemClass" | "subject" | "normalizedSubject" | "from" | "sender" |
   *   "to" | "cc" | "internetMessageId" | "conversationId" | "dateTimeCreated" | "dateTimeModified" | "attachments" |
   *   "getAllInternetHeadersAsync" | "getAsFileAsync" | "getAttachmentContentAsync"> & {
   *   categories: Pick<Office.Categories, "getAsync" | "addAsync" | "removeAsync">, body: Pick<Office.Body, "getAsync">}} ReadItem
   */
  /** @param {ReadData} data @returns {ReadItem} */
  function readItem(data) {
    const askFor = (/** @type {string} */ call, /** @type {any[]} */ ...args) => ask(call, args, data.key);
    const categories = strict("item.categories", {
      getAsync: method(0, async () => categoryDetails(await askFor("getCategories"))),
      addAsync: method(1, (/** @type {string[]} */ names) => askFor("addCategories", names)),
      removeAsync: method(1, (/** @type {string[]} */ names) => askFor("removeCategories", names)),
    });
    /** @type {ReadItem} */
    const members = {
      itemId: /** @type {string} */ (data.itemId),
      itemType: "message",
      itemClass: data.itemClass,
      subject: data.subject,
      normalizedSubject: normalized(data.subject),
      from: /** @type {Office.EmailAddressDetails} */ (data.from && addressDetails(data.from)),
      sender: /** @type {Office.EmailAddressDetails} */ (data.sender && addressDetails(data.sender)),
      to: data.to.map(addressDetails),
      cc: data.cc.map(addressDetails),
      internetMessageId: data.internetMessageId,
      conversationId: data.conversationId,
      dateTimeCreated: new Date(data.created),
      dateTimeModified: new Date(data.created),
      attachments: data.attachments.map(attachmentDetails),
      categories,
      body: strict("item.body", { getAsync: bodyGetter(data.key) }),
      getAllInternetHeadersAsync: method(0, () => /** @type {Promise<string>} */ (askFor("getHeaders"))),
      getAsFileAsync: method(0, () => /** @type {Promise<string>} */ (askFor("getFile"))),
      getAttachmentContentAsync: method(1, (/** @type {string} */ id) =>
        /** @type {Promise<Office.AttachmentContent>} */ (askFor("getAttachment", id))),
    };
    return strict("item", limited(members, {
      categories: "1.8", getAllInternetHeadersAsync: "1.8", getAttachmentContentAsync: "1.8", getAsFileAsync: "1.14",
    }));
  }

  /** @param {string} key @returns {Async<[any], string>} */
  const bodyGetter = (key) => method(1, (/** @type {string} */ coercion) => ask("getBody", [coercion], key));

  /**
   * @typedef {Pick<Office.MessageCompose, "itemType" | "conversationId" | "inReplyTo" | "getItemIdAsync" | "saveAsync" |
   *   "getComposeTypeAsync" | "getAttachmentsAsync" | "addHandlerAsync" | "removeHandlerAsync"> & {
   *   to: Pick<Office.Recipients, "getAsync">, cc: Pick<Office.Recipients, "getAsync">, bcc: Pick<Office.Recipients, "getAsync">,
   *   subject: Pick<Office.Subject, "getAsync">, from: Pick<Office.From, "getAsync">, body: Pick<Office.Body, "getAsync">}} ComposeItem
   */
  /** @param {ComposeData} data @returns {ComposeItem} */
  function composeItem(data) {
    const askFor = (/** @type {string} */ call, /** @type {any[]} */ ...args) => ask(call, args, data.key);
    /** @param {string} field */
    const recipients = (field) => strict(`item.${field}`, {
      getAsync: method(0, async () => /** @type {Party[]} */ (await askFor("getRecipients", field)).map(addressDetails)),
    });
    const from = method(0, () => addressDetails(/** @type {Welcome} */ (welcome).profile));
    /** @type {ComposeItem} */
    const members = {
      itemType: "message",
      conversationId: /** @type {string} */ (data.conversationId),
      inReplyTo: /** @type {string} */ (data.inReplyTo),
      to: recipients("to"),
      cc: recipients("cc"),
      bcc: recipients("bcc"),
      from: strict("item.from", { getAsync: from }),
      subject: strict("item.subject", { getAsync: method(0, () => /** @type {Promise<string>} */ (askFor("getSubject"))) }),
      body: strict("item.body", { getAsync: bodyGetter(data.key) }),
      getItemIdAsync: method(0, () => /** @type {Promise<string>} */ (askFor("getItemId"))),
      saveAsync: method(0, () => /** @type {Promise<string>} */ (askFor("save"))),
      getComposeTypeAsync: method(0, () => ({ composeType: data.inReplyTo ? "reply" : "newMail", coercionType: "text" })),
      getAttachmentsAsync: method(0, () => /** @type {Office.AttachmentDetailsCompose[]} */ ([])),
      ...subscriptions([EventType.RecipientsChanged, EventType.AttachmentsChanged]),
    };
    return strict("item", limited(members, {
      from: "1.7", addHandlerAsync: "1.7", removeHandlerAsync: "1.7", getItemIdAsync: "1.8", getAttachmentsAsync: "1.8",
      getComposeTypeAsync: "1.10", inReplyTo: "1.14",
    }));
  }

  /** @param {ItemData | null} data */
  function show(data) {
    item = data && (data.mode === "read" ? readItem(data) : composeItem(data));
  }

  // -- Context --------------------------------------------------------------------------------------------------------

  /**
   * @typedef {Pick<Office.Mailbox, "item" | "addHandlerAsync" | "removeHandlerAsync" | "convertToRestId" | "convertToEwsId" |
   *   "displayMessageForm" | "getUserIdentityTokenAsync"> & {userProfile: Office.UserProfile, diagnostics: Omit<Office.Diagnostics, "ews">,
   *   masterCategories: Pick<Office.MasterCategories, "getAsync">}} Mailbox
   */
  /** @param {Welcome} host @returns {Mailbox} */
  function mailboxOf(host) {
    const { name, address, timeZone, accountType } = host.profile;
    const profile = { displayName: name, emailAddress: address, timeZone, accountType };
    const events = [EventType.ItemChanged, ...(reaches(host.sets.Mailbox, "1.14") ? [EventType.OfficeThemeChanged] : [])];
    /** @type {Mailbox} */
    const members = {
      get item() {
        return /** @type {Office.Mailbox["item"]} */ (item);
      },
      ...subscriptions(events),
      userProfile: strict("mailbox.userProfile", limited(profile, { accountType: "1.6" })),
      diagnostics: strict("mailbox.diagnostics", { hostName: "OutlookWebApp", hostVersion: host.version, OWAView: "ThreeColumns" }),
      convertToRestId: (id, version) => converted(id, version, (text) => text.replaceAll("/", "-").replaceAll("+", "_")),
      convertToEwsId: (id, version) => converted(id, version, (text) => text.replaceAll("-", "/").replaceAll("_", "+")),
      displayMessageForm: (id) => void ask("openMessage", [id]),
      // The real one takes the callback first, then what it shall get back.
      getUserIdentityTokenAsync: (callback, context) => void identityToken({ asyncContext: context }, callback),
      masterCategories: strict("mailbox.masterCategories", {
        getAsync: method(0, async () => categoryDetails(await ask("getMasterCategories"))),
      }),
    };
    return strict("mailbox", limited(members, { addHandlerAsync: "1.5", removeHandlerAsync: "1.5", masterCategories: "1.8" }));
  }

  /** @type {Async<[], string>} */
  const identityToken = method(0, () => /** @type {Promise<string>} */ (ask("getUserIdentityToken")));

  /** @param {string} id @param {string} version @param {(id: string) => string} convert */
  function converted(id, version, convert) {
    if (typeof id !== "string") throw new TypeError("Value does not fall within the expected range: itemId");
    if (!["v1.0", "v2.0", "beta"].includes(version)) throw new TypeError("Value does not fall within the expected range: restVersion");
    return convert(id);
  }

  /** @typedef {Pick<Office.OfficeTheme, "bodyBackgroundColor" | "bodyForegroundColor" | "controlBackgroundColor" | "controlForegroundColor">} Colors */
  /** @returns {Colors} isDarkTheme and themeId are not supported in Outlook, and so are not here */
  function officeTheme() {
    const { background, text, control, controlText } = /** @type {Theme} */ (theme);
    return strict("officeTheme", {
      bodyBackgroundColor: background,
      bodyForegroundColor: text,
      controlBackgroundColor: control,
      controlForegroundColor: controlText,
    });
  }

  /** @type {Pick<Office.UI, "displayDialogAsync" | "messageParent" | "closeContainer" | "addHandlerAsync" | "openBrowserWindow">} */
  const ui = {
    displayDialogAsync: (/** @type {string} */ url, /** @type {any[]} */ ...rest) => {
      const { height, width, displayInIframe, promptBeforeOpen } = rest.find((arg) => arg && typeof arg === "object") ?? {};
      const open = method(1, async () => {
        await ask("openDialog", [String(url), { height, width, displayInIframe, promptBeforeOpen }]);
        return dialog();
      });
      /** @type {any} */ (open)(url, ...rest);
    },
    messageParent: (message, options) => {
      if (welcome?.kind !== "dialog") throw new Error("messageParent is for dialogs");
      void ask("messageParent", [String(message), options?.targetOrigin ?? null]);
    },
    closeContainer: () => void ask("closeContainer"),
    openBrowserWindow: (url) => {
      if (!requirements.isSetSupported("OpenBrowserWindowApi", "1.1")) throw new Error("openBrowserWindow is not supported here");
      if (!/^https?:$/.test(new URL(url).protocol)) throw new TypeError("openBrowserWindow opens http and https only");
      void ask("openBrowserWindow", [url]);
    },
    addHandlerAsync: subscriptions([EventType.DialogParentMessageReceived]).addHandlerAsync,
  };

  /** @returns {Office.Dialog} */
  function dialog() {
    handlers.delete(EventType.DialogMessageReceived);
    handlers.delete(EventType.DialogEventReceived);
    return strict("Dialog", {
      close: () => void ask("closeDialog"),
      addEventHandler: (/** @type {any} */ type, handler) => void handlers.set(type, [...(handlers.get(type) ?? []), handler]),
      messageChild: (message) => void ask("messageChild", [String(message)]),
      sendMessage: (name) => void ask("messageChild", [String(name)]),
    });
  }

  /** @type {Pick<Office.Auth, "getAccessToken">} */
  const auth = {
    getAccessToken: async (options = {}) => {
      if (tokenPending) throw failure(13008, "OperationInProgress", "An earlier call has not been answered yet.");
      tokenPending = true;
      try {
        const { allowSignInPrompt = false, allowConsentPrompt = false, authChallenge } = options;
        return await ask("getAccessToken", [{ allowSignInPrompt, allowConsentPrompt, authChallenge }]);
      } finally {
        tokenPending = false;
      }
    },
  };

  /** @typedef {(name: string, listener: (response: string) => void) => void} Listen */
  /**
   * The bridge of nested app authentication as MSAL.js knows it (@azure/msal-browser, src/naa/AuthBridge.ts): JSON texts both ways.
   * @returns {{addEventListener: Listen, removeEventListener: Listen, postMessage: (message: string) => void}}
   */
  function bridge() {
    /** @type {((response: string) => void)[]} */
    let listeners = [];
    return {
      addEventListener: (name, listener) => void (name === "message" && listeners.push(listener)),
      removeEventListener: (_, listener) => { listeners = listeners.filter((each) => each !== listener); },
      postMessage: (message) => void ask("nestedAppAuth", [JSON.parse(message)]).then((answer) => {
        for (const listener of listeners) listener(JSON.stringify(answer));
      }),
    };
  }

  /** @type {Office.RequirementSetSupport} */
  const requirements = {
    isSetSupported: (name, version = "1.1") => {
      const have = Object.entries(welcome?.sets ?? {}).find(([set]) => set.toLowerCase() === String(name).toLowerCase());
      return have !== undefined && reaches(have[1], String(version));
    },
  };

  /** @type {Mailbox | undefined} */
  let mailbox;
  const context = {
    // Without a host all of these are undefined, as with the real script outside of Office.
    get mailbox() { return mailbox; },
    get requirements() { return welcome && strict("requirements", requirements); },
    get ui() { return welcome && strict("ui", limited(ui, { closeContainer: "1.5" })); },
    get displayLanguage() { return welcome?.language; },
    get contentLanguage() { return welcome?.language; },
    get host() { return welcome && "Outlook"; },
    get platform() { return welcome && "OfficeOnline"; },
    get diagnostics() {
      return welcome && strict("diagnostics", { host: "Outlook", platform: "OfficeOnline", version: welcome.version });
    },
    get officeTheme() {
      if (!welcome) return undefined;
      if (!reaches(welcome.sets.Mailbox, "1.14")) throw new Error("context.officeTheme is not a member this host has");
      return officeTheme();
    },
  };

  // -- Start ----------------------------------------------------------------------------------------------------------

  /** @type {(info: {host: Office.HostType, platform: Office.PlatformType}) => void} */
  let settle = () => {};
  const ready = new Promise((resolve) => { settle = resolve; });
  /** @type {{initialize: ((reason: Office.InitializationReason) => void) | null}} */
  const start = { initialize: null };
  const Api = Object.assign(start, {
    onReady: (/** @type {((info: any) => any) | undefined} */ callback) => {
      if (callback) void ready.then(callback);
      return /** @type {ReturnType<typeof Office.onReady>} */ (ready);
    },
    context: strict("Office.context", context),
    auth: strict("Office.auth", auth),
    EventType,
    MailboxEnums,
    AsyncResultStatus: strict("Office.AsyncResultStatus", { Succeeded: "succeeded", Failed: "failed" }),
    CoercionType: strict("Office.CoercionType", { Text: "text", Html: "html" }),
    HostType: strict("Office.HostType", { Outlook: "Outlook" }),
    PlatformType: strict("Office.PlatformType", {
      PC: "PC", OfficeOnline: "OfficeOnline", Mac: "Mac", iOS: "iOS", Android: "Android", Universal: "Universal",
    }),
  });

  /** @param {any} hostType @param {any} platform */
  function begin(hostType, platform) {
    Api.initialize?.(/** @type {any} */ ("documentOpened"));
    settle({ host: hostType, platform });
  }

  /** @param {MessageEvent} event */
  function hear({ data }) {
    if (data.id !== undefined) {
      const call = waiting.get(data.id);
      waiting.delete(data.id);
      if (data.error) call?.reject(data.error);
      else call?.resolve(data.value);
    } else if (data.event === "item") {
      show(data.item);
    } else if (data.event === "theme") {
      theme = data.theme;
    } else if (data.event === "raise") {
      const themed = data.type === EventType.OfficeThemeChanged ? { officeTheme: officeTheme() } : {};
      raise(data.type, { ...data.details, ...themed });
    }
  }

  /** @param {MessageEvent} event */
  function greet(event) {
    if (event.origin !== HOST_ORIGIN || event.source !== peer || event.data?.office !== "welcome" || welcome) return;
    removeEventListener("message", greet);
    welcome = /** @type {Welcome} */ (event.data.welcome);
    theme = welcome.theme;
    port = event.ports[0];
    port.onmessage = hear;
    if (welcome.kind === "pane") mailbox = mailboxOf(welcome);
    if (welcome.hasBridge) Object.assign(window, { nestedAppAuthBridge: bridge() });
    show(welcome.item);
    begin("Outlook", "OfficeOnline");
  }

  /** Refuse storage as a browser does that blocks third-party data: reading the property throws, cookies stay empty. */
  function blockStorage() {
    const refuse = () => { throw new DOMException("The document may not use storage", "SecurityError"); };
    for (const name of ["localStorage", "sessionStorage", "indexedDB", "caches"]) Object.defineProperty(window, name, { get: refuse });
    Object.defineProperty(document, "cookie", { get: () => "", set: () => {} });
  }

  if (NAME.storage === "blocked") blockStorage();
  // The real script does this too (learn.microsoft.com, "Referencing the Office JavaScript API library").
  history.pushState = /** @type {any} */ (null);
  history.replaceState = /** @type {any} */ (null);
  Object.defineProperty(window, "Office", { value: strict("Office", Api, ["initialize"]) });

  const peer = window.parent !== window ? window.parent : window.opener;
  if (peer) {
    addEventListener("message", greet);
    peer.postMessage({ office: "hello" }, HOST_ORIGIN);
    setTimeout(() => { if (!welcome) begin(null, null); }, GREETING_MS);
  } else {
    setTimeout(() => begin(null, null));
  }
})();
