import js from "@eslint/js";
import globals from "globals";

// Text from mail and CRM reaches the page as text nodes only, so that escaping cannot be forgotten.
const htmlFromStrings = ["innerHTML", "outerHTML", "insertAdjacentHTML", "setHTMLUnsafe"].map((property) => ({
  property,
  message: "Build elements and set their text.",
}));

export default [
  { ignores: [".venv/", ".dev/", "node_modules/", "static/vendor/"] },
  js.configs.recommended,
  {
    files: ["static/**/*.js", "simulator/**/*.js"],
    languageOptions: { sourceType: "module", globals: { ...globals.browser, Office: "readonly", msal: "readonly" } },
    linterOptions: { reportUnusedDisableDirectives: "error" },
    rules: {
      "eqeqeq": "error",
      "no-eval": "error",
      "no-implied-eval": "error",
      "no-new-func": "error",
      "no-restricted-properties": ["error", ...htmlFromStrings, { object: "document", property: "write" }],
      "no-var": "error",
      "prefer-const": "error",
    },
  },
  {
    // Apps Script: plain scripts in one global scope. A further service of Google's would ask people for a further permission.
    files: ["appsscript/*.js"],
    languageOptions: {
      sourceType: "script",
      globals: { CardService: "readonly", GmailApp: "readonly", ScriptApp: "readonly", UrlFetchApp: "readonly" },
    },
    linterOptions: { reportUnusedDisableDirectives: "error" },
    rules: { "eqeqeq": "error", "no-unused-vars": ["error", { vars: "local" }], "no-var": "error", "prefer-const": "error" },
  },
  {
    files: ["appsscript/main.js"],
    languageOptions: { globals: { drawCard: "readonly", drawPushed: "readonly", drawResponse: "readonly" } },
  },
  { files: ["eslint.config.js", "tests/gmail/*.mjs"], languageOptions: { globals: globals.node } },
];
