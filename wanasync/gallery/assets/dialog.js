// One item at large.

const detail = { item: null };

function openDetail(item) {
  detail.item = item;
  grid.at = Math.max(grid.list.findIndex((one) => one.number === item.number), 0);
  fillDetail();
  if ($("detail").open) return;
  $("detail").showModal();
  // Not the player, which would take the arrows for itself.
  $("detail").focus();
}

function turnDetail(by) {
  const at = grid.list.findIndex((item) => item.number === detail.item.number) + by;
  if (at < 0 || at >= grid.list.length) return;
  openDetail(grid.list[at]);
}

function fillDetail() {
  const { item } = detail;
  const state = stateOf(item);
  const place = $("detail-state");
  place.dataset.state = state;
  place.replaceChildren(sign(state), STATES[state].word);
  $("detail-title").textContent = `Item ${item.index + 1}, ${STATES[state].word}`;
  $("detail-prompt").textContent = item.prompt || item.id;
  fillTheatre(item, state);
  fillTrouble(item, state);
  const facts = Object.entries(factsOf(item)).filter(([, value]) => value !== undefined && value !== "");
  $("detail-facts").replaceChildren(...facts.map(([name, value]) => {
    const row = element("div");
    const words = element("dd", "", String(value));
    words.dir = "auto";
    row.append(element("dt", "", name), words);
    return row;
  }));
}

function fillTheatre(item, state) {
  const shown = `${item.number} ${state} ${item.sha256 ?? ""}`;
  if (detail.shown === shown) return;
  detail.shown = shown;
  emptyTheatre();
  if (state !== "saved") {
    const big = element("div", "big");
    big.dataset.state = state;
    big.append(sign(state));
    $("theatre").replaceChildren(big);
    return;
  }
  const video = element("video");
  video.controls = video.playsInline = video.loop = true;
  video.preload = "auto";
  video.setAttribute("aria-label", item.prompt || item.id);
  video.src = film(item);
  $("theatre").replaceChildren(video);
  if (!calm.matches) video.play().catch(() => {});
}

function emptyTheatre() {
  const video = $("theatre").querySelector("video");
  if (video) { video.pause(); video.removeAttribute("src"); video.load(); }
  $("theatre").replaceChildren();
}

function fillTrouble(item, state) {
  const parts = [];
  if (item.error) {
    const words = element("blockquote", "", item.error);
    words.dir = "auto";
    parts.push(words);
  }
  const advice = about.advice[state];
  if (advice && !(state === "waiting" && isRunning())) parts.push(element("p", "", advice.meaning), command(mend(item, state)));
  $("detail-trouble").dataset.state = state;
  $("detail-trouble").hidden = !parts.length;
  $("detail-trouble").replaceChildren(...parts);
}

const NAMES = { quality: "Quality", duration: "Length", aspect_ratio: "Aspect ratio", model: "Model", prompt_extend: "Prompt extended", image_urls: "Images" };

function setting(name, value) {
  if (name === "duration") return `${value} s`;
  if (typeof value === "boolean") return value ? "yes" : "no";
  return typeof value === "object" ? JSON.stringify(value) : value;
}

function factsOf(item) {
  const facts = {};
  for (const [name, value] of Object.entries(item.settings)) facts[NAMES[name] ?? name] = setting(name, value);
  return {
    ...facts,
    Credits: item.credits === undefined ? undefined : credits(item.credits),
    "Error code": item.code,
    Size: item.bytes === undefined ? undefined : size(item.bytes),
    File: item.file,
    "Place in the list": number(item.index + 1),
    Item: item.id,
    Task: item.task,
    Attempt: item.attempt,
    Submitted: item.submitted === undefined ? undefined : moment(item.submitted),
    "Links die": item.deadline === undefined ? undefined : moment(item.deadline),
    "Last change": item.updated === undefined ? undefined : moment(item.updated),
    "SHA-256": item.sha256,
  };
}

$("detail").addEventListener("close", () => {
  emptyTheatre();
  detail.item = detail.shown = null;
  grid.go(grid.at);
});
$("detail").addEventListener("click", (event) => { if (event.target === $("detail")) $("detail").close(); });
$("detail-close").addEventListener("click", () => $("detail").close());
$("previous").addEventListener("click", () => turnDetail(-1));
$("next").addEventListener("click", () => turnDetail(1));
