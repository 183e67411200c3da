/** The shapes that the modules share; global, so that nothing of them is sent to a browser. Wire shapes are those of /api (architecture, section 8); optional means it may be missing. */

// On the wire

type Person = { name: string; address: string };

interface Ids {
  id: string;
  id_form: "rest" | "ews" | "gmail";
  mailbox: string;
}

interface WireItem extends Ids {
  internet_message_id?: string;
  conversation_id?: string;
  subject: string;
  from: Person;
  to: Person[];
  cc: Person[];
  bcc?: Person[];
  headers?: string;
  item_class?: string;
}

type Link = { type: string; id: string };
type Field = { name: string; label: string; value: string };

interface Card extends Link {
  title: string;
  fields?: Field[];
  url?: string;
  matched?: string[];
  linked?: boolean;
}

interface Save {
  state: "none" | "pending" | "unknown" | "saved" | "failed";
  id?: string;
  reason?: string | null;
  by?: "you" | "colleague" | (string & {}) | null;
  at?: string | null; // RFC 3339: when it was saved, or asked for as long as it is not
  activity?: { id: string; url?: string | null } | null;
}

interface Context {
  cards: Card[];
  unknown: (Person & { verified?: boolean })[];
  notice?: string | null;
  automatic?: { kind: string; reason?: string } | null;
  save?: Save;
  incomplete?: boolean; // a second answer, asked for with `complete`, says more, and is shown without moving what is there
  failed?: string[]; // record types that C4C would not answer for
  trouble?: { code: string; detail: string; retry_after_s?: number | null } | null; // C4C did not answer: the save's state is all that is known
}

/** One item that could not be synchronized, or a question of the engine. */
interface Issue {
  id: string;
  kind: "email" | "contact" | "account" | "individual_customer" | "mailbox";
  code: string;
  name: string;
  cause: string;
  remedy: string;
  url: string;
}

/** What the sync engine is at in this mailbox. */
interface EngineState {
  state: "off" | "suspended" | "queued" | "running" | "done" | "failed";
  is_first: boolean; // not everything was brought down yet
  done: number;
  total: number;
  left_s: number | null;
  last: { at: string } | null;
  next_at: string | null;
  issues: number;
  first_issues: Issue[];
}

interface Question {
  mode: Item["mode"];
  item: WireItem;
  complete?: boolean;
  refresh?: boolean;
  anyway?: boolean; // on automatic mail nobody is looked up before the person wants to save it; from then on everybody stays
}

interface Attachment {
  ref: string;
  name: string;
  size_bytes: number;
  inline?: boolean;
  allowed: boolean;
  reason?: string | null;
}

type Preview = { attachments: Attachment[]; eml?: { allowed: boolean; reason?: string | null }; follow_thread?: boolean };

/** What to save; attachments absent means all that are allowed. */
interface Order {
  subject?: string;
  links: Link[];
  attachments?: { ref: string; name?: string }[];
  include_eml?: boolean;
  follow_thread?: boolean; // save the further messages of its thread
}

/** A Problem (RFC 9457), or as much of one as is known. */
type ProblemBody = Record<string, any>;
/** `question` null: a GET. */
type AskServer = (path: string, question?: object | null, signal?: AbortSignal) => Promise<any>;
type WriteToServer = (path: string, order?: object) => Promise<any>;
type Send = (path: string, request: RequestInit & { signal: AbortSignal }) => Promise<Response>;
type Call = (path: string, body: object | null | undefined, limit: AbortSignal, signal?: AbortSignal) => Promise<any>;

// In the pane

type Key = keyof typeof import("./strings/en.json");
type Message = string | { one: string; other: string };
/** A text with its {names} filled in; `n` also chooses the plural. */
type Translate = (key: Key, values?: Record<string, string | number>) => string;

type Messages = Record<Key, Message>;
/** The text of `prefix_word`, if there is one. */
type Named = (prefix: string, word: string, otherwise: string) => string;
/** A record's field: days and instants in words. */
type FieldText = (name: string, value: string) => string;
type DateText = (at: Date, how: Intl.DateTimeFormatOptions) => string;
type NumberText = (value: number, how?: Intl.NumberFormatOptions) => string;
/** Up to two letters for a name. */
type Initials = (name: string) => string;
/** Shows what would change how the text around it reads: controls and direction overrides. */
type Visible = (text: string) => string;

type Headline = { from: Person; subject: string };
/** The selected item; `identity` is what this page knows it by, `wire.id` what the server does. Read anew, it is null when there is none, or another one by now. */
type Item = { identity: string; mode: "read" | "compose"; wire: WireItem };

type Role = "from" | "to" | "cc" | "bcc" | "other";
type Reason = { label: Role | "account_of"; value: string }; // an address, or a name
type RolesIn = (item: WireItem) => Map<string, Role>;
/** Whether the account is there because of the person. */
type IsAccountOf = (account: Card, person: Card) => any;
type ReasonsFor = (card: Card, cards: Card[], roles: Map<string, Role>) => Reason[];
type PlacedCard = { card: Card; reasons: Reason[] };

/** Everything about one address. A place without cards is somebody who is not found in SAP. */
interface Place {
  key: string; // the address as compared; "" for records that no address matched
  address: string;
  name: string;
  cards: PlacedCard[];
  tag: "" | "not_found" | "checking" | "unchecked"; // of a place without cards
}

type LinksOf = (places: Place[]) => Link[];
/** Case and plus tags do not count. */
type Compared = (address: string) => string;
type PlaceAt = (key: string, address: string, name: string, tag?: Place["tag"]) => Place;
type Ordered = (places: Place[], before: Place[]) => Place[];
type Rank = (known: string[], key: string) => number;

/** `code`: the Problem's; or ours: offline, unreachable, timeout, aborted, broken, and those of signing in. */
type Trouble = { code: string; status: number; detail: string; requestId: string; saveId: string; retryAfter: number };
type Saving = Omit<Save, "state"> & { state: Save["state"] | "saving"; trouble?: Trouble };

/** What the person chose in the save sheet; it outlives the sheet, and is gone with the page. */
interface Draft {
  subject: string;
  unlinked: Set<string>; // keys of records that are not to be linked
  unticked: Set<string>; // refs of attachments that are not to be saved; "eml" is the original e-mail
  names: Map<string, string>; // ref -> new name
}

interface SheetState {
  purpose: "save" | "links";
  draft: Draft;
  preview: Preview | null; // null while it is read
  trouble: Trouble | null;
  saving: boolean;
}

interface State {
  phase: "empty" | "loading" | "shown" | "failed" | "outside";
  headline: Headline | null; // of the item that the rest belongs to
  item: Item | null;
  context: Context | null;
  places: Place[];
  save: Saving;
  sheet: SheetState | null;
  trouble: Trouble | null; // why the phase is "failed"
  refreshing: boolean;
  late: boolean; // it has been loading for longer than a person waits
  online: boolean;
}

/** `aside`: nobody asked for it; `turn`: how often it was asked in vain. */
type Look = (how?: Partial<Question>, aside?: boolean, turn?: number) => Promise<unknown>;
/** `sheet` stays open on refusal. A write carries the item it was made for, and is refused when another one is displayed by then. */
type Write = (write: (item: Item) => Promise<Save>, sheet?: SheetState) => Promise<void>;
/** Only the person can mend it, so that it is shown even in the place of cards. */
type IsTheirs = (trouble: Trouble) => boolean;
/** Anything but an ApiError is a bug of ours and goes on. */
type TroubleOf = (error: unknown) => Trouble;
/** Opens the save sheet; "links": the e-mail is in C4C already. */
type Choose = (purpose: SheetState["purpose"]) => void;
/** Everything is chosen at first; once links exist, just those. */
type NewDraft = (item: Item, purpose: string) => Draft;
type Sync = (order?: true) => Promise<EngineState>;
type OrderOf = (sheet: SheetState) => Order;
type SetSheet = (sheet: SheetState, change: Partial<SheetState>) => void;
type End = (item: Item, save: Save, before: Saving) => void;
/** Shows what the server knows of the item, unless nobody waits for it any more. */
type Ask = (item: Item, how: Partial<Question> | undefined, before: Place[]) => Promise<Context | void>;

/** What `Sidebar` acts on: `draw` shows its state, `tell` says what is not part of that. */
interface Surroundings {
  host: import("./host.js").Host;
  api: import("./api.js").Api;
  view: { draw(state: State): void; tell(news: News): void };
  sleep: (s: number) => Promise<unknown>;
}

/** Something that passes: success disappears, failure stays until it is dismissed; what is about the shown item goes with it. */
interface News {
  key: "found" | "saved_toast" | "accepted_toast" | "item_changed" | "saved_other" | "failed_other" | "refresh_failed" | "sign_in_failed";
  subject?: string;
  trouble?: Trouble;
  count?: number;
}

// Signing in

/** A token for our server, "" where this way is missing or broken. `ask`: something may be opened, as the person clicked. Raises: ApiError. */
type Way = (ask: boolean) => Promise<string>;
type NestedApp = Pick<import("@azure/msal-browser").IPublicClientApplication, "acquireTokenSilent" | "acquireTokenPopup">;
/**
 * What works is remembered, so that a refused token is renewed the same way. `settings`: of the page. The first way is nested app
 * authentication (learn.microsoft.com, enable-nested-app-authentication-in-your-add-in), which is seen to fail where it is announced
 * (AzureAD/microsoft-authentication-library-for-js issues 7280 and 7723).
 */
type SignInOf = (host: Pick<import("./host.js").Host, "nestsApps" | "officeToken" | "exchangeToken" | "dialogToken">, settings: DOMStringMap) => Way;
/** MSAL.js, once its file is loaded. */
declare var msal: Pick<typeof import("@azure/msal-browser"), "createNestablePublicClientApplication">;

// In the mail client

type On = (changed: () => void) => void;
/** Opens a page of ours beside the mail client; ends when the person is back. */
type Visit = (path: string) => Promise<void>;

type ValueOf = <T>(get: (callback: (result: Office.AsyncResult<T>) => void) => void) => Promise<T | undefined>;
/** A name that cannot be seen is none. */
type PersonOf = (of?: Partial<Office.EmailAddressDetails> | null) => Person;
/** The subject of a draft is an object with getAsync. */
type IsMessage = (item: object) => item is Office.MessageRead;

// On the screen

/** What a person can do. */
interface Actions {
  /** What is shown stays until the answer comes. */
  refresh(): void;
  signIn(): void;
  /** Open a page of the settings, at first that which mends the mailbox's connection; the coming back is a refresh. */
  connect(page?: string): Promise<void>;
  /** What the sync engine is at; `order`: have a session begin. Raises: ApiError. */
  sync: Sync;
  /** With every record that the lookup found. */
  save(): void;
  /** The same message is the same save, so trying again does no harm. */
  retry(): void;
  choose: Choose;
  preview(): void;
  confirm(): void;
  close(): void;
}

/** What the views draw with. */
interface Ui {
  t: Translate;
  text: import("./text.js").Text;
  actions: Actions;
  opened: Map<string, boolean>; // cards that the person opened or folded
}

/** null: as the browser says. */
type SetTheme = (theme: "light" | "dark" | null) => void;
/** A text's key; with _next for what to do. */
type KeyOf = (trouble: Trouble) => any;
/** What the server says knows more, but is English; on a fault it knows nothing. */
type Told = (trouble: Trouble) => any;
type Sentence = (trouble: Trouble, t: Translate) => string;
/** What fills the pane when there are no cards. */
type EmptyNotice = (state: State, ui: Ui) => Notice | null;
/** What stands above the cards. */
type Banners = (state: State, ui: Ui) => Notice[];
type Worded = (notice: string, t: Translate) => Pick<Notice, "title" | "next" | "step">;

type BarFacts = { save: Saving; count: number; isQuiet: boolean };
type Say<Value> = (value: Value, ui: Ui) => string;
type DrawCard = (placed: PlacedCard, ui: Ui, level: "h2" | "h3") => HTMLElement[];
type NoticePart = (notice: Notice, kind: "banner" | "empty", ui: Ui) => Part;
/**
 * `before`: the places of the former answer. Each stays where it is, because somebody may be reading there; what is new comes last.
 */
type Arrange = (context: Context, item: WireItem, before?: Place[]) => Place[];

/** `place`: of the sheet; `behind`: what it covers. */
type DrawSheet = (place: HTMLElement, behind: HTMLElement, state: State, ui: Ui) => void;
type SheetParts<Kind> = (sheet: SheetState, cards: Card[], ui: Ui) => Kind[];
type FileRow = (file: Attachment, draft: Draft, ui: Ui) => HTMLElement;
type TextField = (value: string, typed: (words: string) => void) => HTMLInputElement;
/** `off` holds the name while it is not ticked. */
type Checkbox = (off: Set<string>, name: string, isEnabled?: boolean) => HTMLInputElement;
type Choice = (box: HTMLInputElement, words: string, hint?: string | false | null, more?: Node) => HTMLElement;

type Mailto = (address: string) => string;
/** `name`: for screen readers. */
type NewTab = (href: string, label: string, name: string) => Node | "";
/** One line, the rest on hover. */
type Short = (text: string, spec?: string) => HTMLElement;
/** Those of sidebar.html. */
type IconName = "alert" | "back" | "check" | "chevron" | "close" | "mail" | "menu" | "open" | "pencil" | "refresh";
type Icon = (name: IconName) => SVGSVGElement;
type IconButton = (name: IconName, label: string, click: () => void) => HTMLButtonElement;
/** `focus`: a name that survives redrawing. */
type Button = (label: string, focus: string, click: () => void, kind?: string) => HTMLButtonElement;

type StateLine = (tone: "good" | "wait" | "bad", sign: Node, words: string) => HTMLElement;
type Row = (label: string, value: string, href: string | null) => Fact;
/** `otherwise`: what to say when there are no rows. */
type Group = (title: Key, rows: HTMLElement[], otherwise: Key, ui: Ui) => HTMLElement;
type Fact = [term: string, value: Node | string];

type Draw<Value> = (value: Value, ui: Ui) => HTMLElement;
type DrawParts<Value> = (value: Value, ui: Ui) => Part[];

type Step = "refresh" | "signIn" | "connect";

interface Notice {
  tone: "info" | "wait" | "bad";
  title: string;
  next?: string;
  step?: Step | false;
  trouble?: Trouble;
}

type TagOf<Spec extends string> = Spec extends `${infer Tag}.${string}` ? Tag : Spec;
type ElementOf<Spec extends string> = TagOf<Spec> extends keyof HTMLElementTagNameMap ? HTMLElementTagNameMap[TagOf<Spec>] : HTMLElement;
type Attributes = Record<string, string | number | boolean | null | undefined | ((event: Event) => void)>;
type Child = Node | string | null | undefined | false | "" | Attributes;

/** el("p.note", {title, click: f}, text, node): functions are listeners; null and false are left out. */
type El = <Spec extends string>(spec: Spec, ...children: (Child | Child[])[]) => ElementOf<Spec>;

type SetOn = (node: HTMLElement, name: string, value: unknown) => void;
/** An address to follow; null: nobody may. */
type Address = (words: string) => string | null;
/**
 * What is the same as before stays the same element, with focus, selection and place; when the focused element goes, its namesake
 * (data-focus) takes the focus.
 */
type Show = (parent: HTMLElement, parts: Part[]) => void;
type Refocus = (parent: HTMLElement, name?: string | null) => void;

/** One child of a region: drawn anew only when what it `is` has changed. */
type Part = { key: string; is: unknown; build: () => HTMLElement };
