// Words and figures, as people read them; and elements, which are filled with text and never with markup.

"use strict";

const $ = (id) => document.getElementById(id);

function element(tag, className, text) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

const SVG = "http://www.w3.org/2000/svg";

function drawn(tag, attributes) {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  return made;
}

const number = (value) => value.toLocaleString("en");
const count = (value, word) => `${number(value)} ${word}${value === 1 ? "" : "s"}`;
const credits = (value) => value.toLocaleString("en", { maximumFractionDigits: 2 });

function size(bytes) {
  for (const unit of ["B", "kB", "MB", "GB"]) {
    if (bytes < 1000) return `${bytes.toFixed(unit === "B" || bytes >= 100 ? 0 : 1)} ${unit}`;
    bytes /= 1000;
  }
  return `${bytes.toFixed(1)} TB`;
}

function span(seconds) {
  const whole = Math.max(Math.round(seconds), 0);
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min${whole % 60 ? ` ${whole % 60} s` : ""}`;
  if (whole < 86400 * 2) return `${Math.floor(whole / 3600)} h${whole % 3600 >= 60 ? ` ${Math.floor((whole % 3600) / 60)} min` : ""}`;
  return `${Math.floor(whole / 86400)} days`;
}

const moment = (seconds) => new Date(seconds * 1000).toLocaleString(undefined, { dateStyle: "medium", timeStyle: "short" });
const clock = (seconds, exact) => new Date(seconds * 1000).toLocaleTimeString(undefined, { hour: "2-digit", minute: "2-digit", second: exact ? "2-digit" : undefined });

const RATIOS = { "16:9": 16 / 9, "9:16": 9 / 16, "1:1": 1, "4:3": 4 / 3, "3:4": 3 / 4 };

// What is said of a state, in the order of the filters. `group` is the colour.
const STATES = {
  saved: { word: "Saved", sign: "M4.5 10.5l3.5 3.5 7.5-8" },
  making: { word: "In the making", sign: "M10 4v6l4 2.5" },
  waiting: { word: "Waiting", sign: "M6 4h8M6 16h8M7 4c0 6 6 6 6 12M13 4c0 6-6 6-6 12" },
  pending: { word: "Not saved yet", sign: "M10 4v8m-3.5-3L10 12.5 13.5 9M5 16h10" },
  failed: { word: "Failed", sign: "M5.5 5.5l9 9m0-9l-9 9" },
  rejected: { word: "Rejected", sign: "M5.2 14.8l9.6-9.6M10 3.2a6.8 6.8 0 1 1 0 13.6 6.8 6.8 0 0 1 0-13.6" },
  unknown: { word: "Unknown", sign: "M7.2 7.6c0-3.8 5.8-3.6 5.6-.2C12.7 9.6 10 9.6 10 12m0 3.2v.1" },
  expired: { word: "Expired", sign: "M8.2 11.8l3.6-3.6M9 5.8l1.4-1.4a3.6 3.6 0 0 1 5.1 5.1L14.2 11M11 14.2l-1.4 1.4a3.6 3.6 0 0 1-5.1-5.1L5.8 9M4 4l12 12" },
};

const TROUBLE = ["failed", "rejected", "unknown", "expired"];

function sign(state) {
  const svg = drawn("svg", { viewBox: "0 0 20 20", "aria-hidden": "true", class: "sign" });
  svg.append(drawn("path", { d: STATES[state].sign }));
  return svg;
}

// Where the journal says an item stands, as the page tells it: what nobody works on any more is told so.
function told(item, running) {
  switch (item.state) {
    case "planned": return "waiting";
    case "submitting": return running ? "making" : "unknown";
    case "following": case "saving": return running ? "making" : "pending";
    default: return item.state in STATES ? item.state : "unknown";
  }
}

const STEPS = { submitting: "being submitted", following: "the provider is at it", saving: "made, being saved" };

async function copy(text, button) {
  const before = button.textContent;
  try {
    await navigator.clipboard.writeText(text);
    button.textContent = "Copied";
  } catch {
    button.textContent = "Press Ctrl+C";
    const code = button.parentElement.querySelector("code");
    if (code) getSelection().selectAllChildren(code);
  }
  setTimeout(() => { button.textContent = before; }, 1500);
}

// A command line with its button; the text can be selected as well.
function command(text) {
  const line = element("div", "command");
  const button = element("button", "copy", "Copy");
  button.type = "button";
  button.setAttribute("aria-label", `Copy the command ${text}`);
  button.addEventListener("click", (event) => { event.stopPropagation(); copy(text, button); });
  const code = element("code", "", text);
  code.tabIndex = 0;
  code.setAttribute("role", "group");
  code.setAttribute("aria-label", "The command that mends it");
  line.append(code, button);
  return line;
}
