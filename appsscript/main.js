/**
 * The Gmail add-on where it runs on Apps Script: each event goes to the server with proof of who the person is, and what the
 * server answers is drawn. Nothing is decided here, so a change of the product needs no new version of this script.
 * Google calls a function whose name is in appsscript.json or on a button, and ends it after 30 seconds.
 */

/** @typedef {GoogleAppsScript.Addons.EventObject} Event */
/** @typedef {"homepage" | "message" | "compose"} Place */

const SERVER = "https://localhost:8400"; // `ssi manifest gmail` puts in where this installation is
/** By these a program tells that it sent a message (RFC 3834, RFC 2919, RFC 2369); the server judges. */
const TELLING = ["Auto-Submitted", "Precedence", "List-Id", "List-Unsubscribe", "X-Autoreply", "Return-Path", "Content-Type"];
const DROPPED_WITHIN_MS = 8000; // what fails later is slow, and a second try would outlast the 30 seconds

/** @param {Event} event */
function onHomepage(event) {
  return cardsFor("homepage", event);
}

/** @param {Event} event */
function onMessage(event) {
  return cardsFor("message", event);
}

/** @param {Event} event */
function onCompose(event) {
  return cardsFor("compose", event);
}

/** A click on what the server drew; its token says what it means. @param {Event} event */
function onAction(event) {
  try {
    const answer = ask("action", event, Boolean(event.gmail && event.gmail.messageId && event.gmail.accessToken));
    return drawResponse(answer.renderActions.action, answer.stateChanged === true);
  } catch (error) {
    return drawResponse({ navigations: [{ pushCard: failureCard(error, event, null) }] }, false); // above the form, which stays
  }
}

/** "Try again" on a card that says what failed. @param {Event} event */
function onRetry(event) {
  const card = cardsFor(/** @type {Place} */ (event.commonEventObject.parameters.place), event)[0];
  return CardService.newActionResponseBuilder().setNavigation(CardService.newNavigation().updateCard(card)).build();
}

/** @param {Place} place @param {Event} event */
function cardsFor(place, event) {
  try {
    return drawPushed(ask(place, event, place === "message").action.navigations);
  } catch (error) {
    return [drawCard(failureCard(error, event, place))];
  }
}

/** Return the server's JSON. @param {Place | "action"} path @param {Event} event @param {boolean} withMessage @returns {any} */
function ask(path, event, withMessage) {
  const token = ScriptApp.getIdentityToken();
  if (!token) throw new Failure("401");
  const response = post(`${SERVER}/gmail/${path}`, token, JSON.stringify(forwarded(event, withMessage)));
  const status = response.getResponseCode();
  if (status === 200) return JSON.parse(response.getContentText());
  throw new Failure(status in FAILURES ? String(status) : status < 500 ? "outdated" : "unreachable");
}

/**
 * A call that was dropped (UrlFetchApp throws only then) is made once more. The server does not do a thing twice: the same
 * message is the same save, and a token that creates counts once. The token is for our server only: no redirects.
 * @param {string} url @param {string} token @param {string} payload
 */
function post(url, token, payload) {
  const headers = { Authorization: `Bearer ${token}` };
  const options = { contentType: "application/json", headers, payload, followRedirects: false, muteHttpExceptions: true };
  const startedAt = Date.now();
  for (let isLast = false; ; isLast = true) {
    try {
      return UrlFetchApp.fetch(url, { method: "post", ...options });
    } catch (error) {
      if (/invoked too many times/.test(String(error))) throw new Failure("429"); // Google's own quotas of UrlFetchApp
      if (Date.now() - startedAt > DROPPED_WITHIN_MS) throw new Failure("timeout");
      if (isLast) throw new Failure("unreachable");
    }
  }
}

/** What the server gets of an event; Google's access tokens stay here. @param {Event} event @param {boolean} withMessage */
function forwarded(event, withMessage) {
  const { hostApp, platform, userLocale, timeZone, formInputs, parameters } = event.commonEventObject;
  const commonEventObject = { hostApp, platform, userLocale, timeZone, formInputs, parameters };
  if (!event.gmail) return { commonEventObject };
  const { messageId, threadId, toRecipients, ccRecipients, bccRecipients, accessToken } = event.gmail;
  const gmail = { messageId, threadId, toRecipients, ccRecipients, bccRecipients };
  return { commonEventObject, gmail, message: withMessage ? headersOf(messageId, accessToken) : undefined };
}

/** @param {string} id @param {string} accessToken of this one message */
function headersOf(id, accessToken) {
  try {
    GmailApp.setCurrentMessageAccessToken(accessToken);
    const message = GmailApp.getMessageById(id);
    const [from, to, cc, subject] = [message.getFrom(), message.getTo(), message.getCc(), message.getSubject()];
    const others = Object.fromEntries(TELLING.map((name) => [name, message.getHeader(name)]).filter(([, value]) => value));
    return { from, to, cc, subject, messageId: message.getHeader("Message-ID"), others };
  } catch {
    throw new Failure("message");
  }
}

/** There is no card of the server's to show; the message is one of FAILURES. */
class Failure extends Error {}

const MOMENT = ["Try again in a moment.", "Versuchen Sie es gleich noch einmal."];
const ADMINISTRATOR = ["Contact your administrator.", "Wenden Sie sich an Ihren Administrator."];
const RETRY = ["Try again", "Erneut versuchen"];

/** A status or a reason -> what is wrong, in English and German, and what helps. @type {Record<string, [string, string, string[]]>} */
const FAILURES = {
  401: ["Google did not confirm who you are", "Google hat nicht bestätigt, wer Sie sind", ADMINISTRATOR],
  403: ["You may not see this", "Sie dürfen das nicht sehen", ADMINISTRATOR],
  429: ["There are too many requests at the moment", "Im Moment gibt es zu viele Anfragen", MOMENT],
  500: ["Something went wrong on the server", "Auf dem Server ist ein Fehler aufgetreten", MOMENT],
  outdated: ["This add-on does not fit its server", "Dieses Add-on passt nicht zu seinem Server", ADMINISTRATOR],
  unreachable: ["The server cannot be reached", "Der Server ist nicht erreichbar", MOMENT],
  timeout: ["The server takes too long to answer", "Der Server antwortet nicht rechtzeitig", MOMENT],
  unreadable: ["The server's answer cannot be shown", "Die Antwort des Servers kann nicht angezeigt werden", MOMENT],
  message: ["Gmail did not hand over this message", "Gmail hat diese Nachricht nicht übergeben", MOMENT],
};

/** The card in place of another. @param {unknown} error @param {Event} event @param {Place | null} place to try again */
function failureCard(error, event, place) {
  const language = /^de/.test(event.commonEventObject.userLocale || "") ? 1 : 0;
  const failure = FAILURES[error instanceof Failure ? error.message : "unreadable"]; // anything else comes from drawing
  /** @type {any[]} */
  const widgets = [{ textParagraph: { text: `<b>${failure[language]}</b><br>${failure[2][language]}` } }];
  const action = { function: "onRetry", parameters: [{ key: "place", value: place }], loadIndicator: "SPINNER" };
  if (place) widgets.push({ buttonList: { buttons: [{ text: RETRY[language], onClick: { action } }] } });
  return { header: { title: "SSI Sidebar" }, sections: [{ widgets }] };
}
