// The batch: what it was when the page was made, and what came since.

const about = JSON.parse($("about").textContent);
const items = new Map();

function keep(item) {
  item.settings ??= {};
  item.ratio = RATIOS[item.settings.aspect_ratio] ?? 16 / 9;
  item.text = `${item.prompt} ${item.id} ${item.task ?? ""} ${item.file ?? ""} ${item.code ?? ""} ${item.error ?? ""}`.toLowerCase();
  items.set(item.number, item);
}

for (const item of JSON.parse($("items").textContent)) keep(item);
$("items").remove();

const isRunning = () => about.live && about.status.running != null;
const stateOf = (item) => told(item, isRunning());

const isShortened = about.status.items > items.size;

function counts() {
  const found = Object.fromEntries(Object.keys(STATES).map((state) => [state, 0]));
  for (const item of items.values()) found[stateOf(item)] += 1;
  return found;
}

const LAST = Number.MAX_VALUE;
const byList = (a, b) => a.index - b.index || a.number - b.number;
const urgency = (item) => { const at = TROUBLE.indexOf(stateOf(item)); return at < 0 ? TROUBLE.length + (stateOf(item) === "saved") : at; };
const ORDERS = {
  list: byList,
  latest: (a, b) => (b.updated ?? 0) - (a.updated ?? 0) || byList(a, b),
  trouble: (a, b) => urgency(a) - urgency(b) || byList(a, b),
  credits: (a, b) => (b.credits ?? 0) - (a.credits ?? 0) || byList(a, b),
  bytes: (a, b) => (b.bytes ?? 0) - (a.bytes ?? 0) || byList(a, b),
  deadline: (a, b) => (a.deadline ?? LAST) - (b.deadline ?? LAST) || byList(a, b),
};

const view = { filter: "all", words: [], order: "list" };

function isShown(item) {
  const state = stateOf(item);
  const fits = view.filter === "all" || (view.filter === "trouble" ? TROUBLE.includes(state) : state === view.filter);
  return fits && view.words.every((word) => item.text.includes(word));
}

const selection = () => [...items.values()].filter(isShown).sort(ORDERS[view.order]);

// Of its own directory and nowhere else, whatever a file is called.
function film(item) {
  if (!item.file) return null;
  return about.live ? `videos/${item.number}.mp4` : `./${item.file.split("/").map(encodeURIComponent).join("/")}`;
}
