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
  { files: ["eslint.config.js"], languageOptions: { globals: globals.node } },
];
