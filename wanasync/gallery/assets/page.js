// The page as a whole: figures, filters, keys, and what comes from a run that goes on.

function fillHead() {
  $("name").textContent = about.name;
  $("when").replaceChildren(...(about.live ? liveWords() : [`Report of ${moment(about.at)}`]));
}

function liveWords() {
  const dot = element("span", "dot");
  dot.dataset.on = String(link.open && isRunning());
  if (!link.open) return [dot, "This page’s server has ended; what it told last is shown"];
  const last = pace.samples.at(-1);
  const left = last?.paused_until === undefined ? 0 : last.paused_until - Date.now() / 1000;
  if (isRunning() && left > 0) return [dot, `Paused for ${span(left)}: ${last.why || "the provider asked to wait"}`];
  const { budget, limit, stopped } = about.status;
  if (stopped === "budget") return [dot, `Stopped before the budget of ${credits(budget)} credits could be passed`];
  if (stopped === "limit") return [dot, `Stopped at the limit of ${count(limit, "submission")}`];
  return [dot, isRunning() ? `Live: ${about.status.running}` : "Nobody works on it now"];
}

function figure(word, value, note) {
  const box = element("div", "figure");
  const said = element("dd", "", value);
  if (note) said.append(element("small", "", note));
  box.append(element("dt", "", word), said);
  return box;
}

function fillFigures(found) {
  const { status } = about;
  let bytes = 0, seconds = 0, first = Infinity;
  for (const item of items.values()) {
    if (item.state === "saved") { bytes += item.bytes ?? 0; seconds += item.settings.duration ?? 5; }
    if (item.deadline !== undefined) first = Math.min(first, item.deadline);
  }
  const trouble = TROUBLE.reduce((sum, state) => sum + found[state], 0);
  const boxes = [
    figure("Videos saved", number(status.saved), ` of ${number(status.items)}`),
    figure("Film", span(seconds), bytes ? ` · ${size(bytes)}` : ""),
    figure("Credits used", credits(status.credits_used), ` of ${credits(status.credits_reserved)} reserved`),
    figure("Need a look", number(trouble), trouble ? "" : " all is well"),
  ];
  if (first < Infinity) boxes.push(figure("First link dies in", span(first - Date.now() / 1000)));
  const eta = expected(found);
  if (eta) boxes.push(figure("To go, about", eta));
  $("figures").replaceChildren(...boxes);
}

// By the pace of the last minutes; nothing where there is none.
function expected(found) {
  const last = pace.samples.at(-1);
  const left = found.waiting + found.making;
  if (!isRunning() || !last || !left) return null;
  const { sum, seconds } = paceOfLate("saved", 300);
  return sum >= 3 && seconds >= 5 ? span((left * seconds) / sum) : null;
}

function fillBar(found) {
  const all = items.size || 1;
  const parts = Object.entries(found).filter(([, value]) => value);
  $("bar").replaceChildren(...parts.map(([state, value]) => {
    const part = element("span");
    part.dataset.state = state;
    part.style.flexGrow = String(value / all);
    part.title = `${STATES[state].word}: ${number(value)}`;
    return part;
  }));
  $("bar").setAttribute("aria-label", parts.map(([state, value]) => `${STATES[state].word} ${number(value)}`).join(", ") || "Nothing yet");
}

function fillFilters(found) {
  const trouble = TROUBLE.filter((state) => found[state]);
  const shown = [["all", "All", items.size], ...Object.entries(found).map(([state, value]) => [state, STATES[state].word, value])];
  if (trouble.length > 1) shown.splice(1, 0, ["trouble", "Need a look", trouble.reduce((sum, state) => sum + found[state], 0)]);
  const present = shown.filter(([name, , value]) => value || name === "all" || name === view.filter);
  const box = $("filters");
  const names = present.map(([name]) => name).join();
  if (box.dataset.names !== names) {
    box.dataset.names = names;
    const held = document.activeElement?.dataset?.filter;
    box.replaceChildren(...present.map(([name, word]) => filterButton(name, word)));
    if (held) box.querySelector(`[data-filter="${held}"]`)?.focus();
  }
  for (const [name, , value] of present) {
    const button = box.querySelector(`[data-filter="${name}"]`);
    button.querySelector("b").textContent = number(value);
    button.setAttribute("aria-pressed", String(view.filter === name));
  }
}

function filterButton(name, word) {
  const button = element("button", "filter");
  button.type = "button";
  button.dataset.filter = name;
  if (name in STATES) { button.dataset.state = name; button.append(sign(name)); }
  button.append(element("span", "", word), " ", element("b"));
  button.addEventListener("click", () => { view.filter = view.filter === name ? "all" : name; refresh(); scrollToGrid(); });
  return button;
}

function scrollToGrid() {
  const top = document.querySelector(".controls").offsetTop;
  if (scrollY > top) scrollTo({ top });
}

function fillEmpty(shown) {
  $("empty").hidden = shown > 0;
  $("grid").hidden = shown === 0;
  const isFiltered = view.filter !== "all" || view.words.length;
  $("empty-words").textContent = isFiltered ? "Nothing fits the search and the filter." : "Nothing is in the journal yet.";
  $("empty-reset").hidden = !isFiltered;
  $("shown").textContent = `${count(shown, "item")} shown`;
}

function refresh() {
  const found = counts();
  const list = selection();
  fillHead();
  fillFigures(found);
  fillBar(found);
  fillFilters(found);
  fillEmpty(list.length);
  grid.show(list);
  if (detail.item) { detail.item = items.get(detail.item.number) ?? detail.item; fillDetail(); }
  $("notice").hidden = !isShortened;
  if (isShortened) $("notice").textContent = `This page shows ${number(items.size)} of ${number(about.status.items)} items; those in trouble come first.`;
}

let due = false;
function refreshSoon() {
  if (due) return;
  due = true;
  setTimeout(() => requestAnimationFrame(() => { due = false; refresh(); }), items.size > 20000 ? 1000 : 120);
}

// What a run tells.

const link = { open: about.live, news: new Map() };

function listen() {
  const source = new EventSource(`events?since=${encodeURIComponent(about.mark)}&pace=${pace.samples.at(-1)?.at ?? 0}`);
  source.addEventListener("items", (event) => { for (const item of JSON.parse(event.data)) hear(item); refreshSoon(); });
  source.addEventListener("status", (event) => { about.status = JSON.parse(event.data); refreshSoon(); });
  source.addEventListener("pace", (event) => { addSamples(JSON.parse(event.data)); drawPace(); });
  source.addEventListener("trouble", (event) => toast("failed", JSON.parse(event.data)));
  source.addEventListener("end", () => { source.close(); link.open = false; refresh(); });
  source.onopen = () => { link.open = true; fillHead(); };
  source.onerror = () => { link.open = false; fillHead(); };
}

function hear(item) {
  const before = items.get(item.number);
  if (!before && isShortened) return;
  keep(item);
  const state = stateOf(item);
  if (before && stateOf(before) === state) return;
  if (state === "saved" || TROUBLE.includes(state)) link.news.set(state, [...(link.news.get(state) ?? []), item]);
}

// A toast for each state at most every few seconds: a hundred videos are one piece of news.
function tellNews() {
  for (const [state, changed] of link.news) {
    const what = changed.length === 1 ? changed[0].prompt || changed[0].id : "";
    toast(state, changed.length === 1 ? what : count(changed.length, "video"));
  }
  link.news.clear();
}

function toast(state, words) {
  const box = element("div", "toast");
  box.dataset.state = state;
  const text = element("span", "", words.length > 90 ? `${words.slice(0, 89)}…` : words);
  text.dir = "auto";
  box.append(sign(state), element("b", "", STATES[state].word), text);
  $("toasts").append(box);
  while ($("toasts").children.length > 3) $("toasts").firstChild.remove();
  setTimeout(() => box.remove(), 5000);
}

// Keys.

const isTyping = (target) => target.matches?.("input, select, textarea");
const isPlayer = (target) => target.matches?.("video");

function onKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || $("help").open) return;
  const done = $("detail").open ? keyInDetail(event) : keyInGrid(event);
  if (done) event.preventDefault();
}

function keyInDetail(event) {
  const video = $("theatre").querySelector("video");
  if (isPlayer(event.target) && event.key !== "Escape") return false;
  if (event.key === "ArrowLeft") turnDetail(-1);
  else if (event.key === "ArrowRight") turnDetail(1);
  else if (event.key === " " && video && !event.target.matches("button")) video.paused ? video.play() : video.pause();
  else return false;
  return true;
}

function keyInGrid(event) {
  if (event.key === "Escape") return clearSearch();
  if (isTyping(event.target)) return event.target === $("search") && event.key === "ArrowDown" && (grid.go(grid.at), true);
  if (event.key === "/") { $("search").focus(); $("search").select(); return true; }
  if (event.key === "?") { $("help").showModal(); return true; }
  const card = event.target.closest?.(".card");
  const isElsewhere = event.target !== document.body && !event.target.matches?.(".open, #videos");
  if (isElsewhere) return false;
  if (event.key === " " && card) { card.video ? stopPreview(card) : preview(card); return card.state === "saved"; }
  const steps = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -grid.columns, ArrowDown: grid.columns, Home: -Infinity, End: Infinity };
  if (!(event.key in steps) || (!card && !event.key.startsWith("Arrow"))) return false;
  if (card) grid.go(grid.at + steps[event.key]);
  else grid.go(grid.at);
  return true;
}

function clearSearch() {
  if (!$("search").value && view.filter === "all") return false;
  $("search").value = "";
  view.words = [];
  view.filter = "all";
  refresh();
  return true;
}

// Light and dark.

const KEPT = "wanasync-theme";

function storedTheme() {
  try { return localStorage.getItem(KEPT); } catch { return null; }
}

function setTheme(theme) {
  if (theme) document.documentElement.dataset.theme = theme;
  try { localStorage.setItem(KEPT, theme); } catch { /* a file's page may have no storage */ }
}

const isDark = () => (document.documentElement.dataset.theme ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";

// Beginning.

const kept = storedTheme();
if (kept === "light" || kept === "dark") document.documentElement.dataset.theme = kept;
$("theme").addEventListener("click", () => setTheme(isDark() ? "light" : "dark"));
$("help-open").addEventListener("click", () => $("help").showModal());
$("search").addEventListener("input", () => { view.words = $("search").value.toLowerCase().split(/\s+/).filter(Boolean); refreshSoon(); });
$("sort").addEventListener("change", () => { view.order = $("sort").value; refresh(); });
$("empty-reset").addEventListener("click", () => { clearSearch(); $("search").focus(); });
document.addEventListener("keydown", onKey);
addEventListener("scroll", () => grid.fill(), { passive: true });
new ResizeObserver(() => { grid.lay(); drawPace(); }).observe($("videos"));
refresh();
drawPace();
if (about.live) {
  listen();
  setInterval(tellNews, 2500);
  setInterval(() => { fillHead(); fillFigures(counts()); grid.tick(); }, 1000);
  setInterval(() => { if (isRunning()) drawPace(); }, 5000);
}
