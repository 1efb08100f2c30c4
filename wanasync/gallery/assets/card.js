// One item as a card. A card is made when its row comes into sight, and thrown away when it leaves.

const calm = matchMedia("(prefers-reduced-motion: reduce)");
const inSight = new IntersectionObserver((seen) => {
  for (const entry of seen) {
    if (entry.isIntersecting) { inSight.unobserve(entry.target); entry.target.appear?.(); }
  }
}, { rootMargin: "200px" });

function makeCard(item) {
  const card = element("li", "card");
  card.stage = element("div", "stage");
  card.open = element("button", "open");
  card.open.type = "button";
  card.open.tabIndex = -1;
  card.body = element("div", "body");
  card.prompt = element("p", "prompt");
  card.prompt.dir = "auto";
  card.meta = element("p", "meta");
  card.body.append(card.prompt, card.meta);
  card.append(card.stage, card.open, card.body);
  card.open.addEventListener("click", () => openDetail(card.item));
  card.addEventListener("pointerenter", (event) => { if (event.pointerType === "mouse" && !calm.matches) preview(card); });
  card.addEventListener("pointerleave", () => stopPreview(card));
  fillCard(card, item);
  return card;
}

function fillCard(card, item) {
  const state = stateOf(item);
  const same = card.item && card.state === state && card.item.file === item.file && card.item.state === item.state && card.item.error === item.error;
  card.item = item;
  if (same) return;
  const changed = card.state !== undefined && card.state !== state;
  card.state = state;
  card.dataset.state = state;
  card.open.setAttribute("aria-label", cardName(item, state));
  card.prompt.textContent = item.prompt || item.id;
  card.prompt.title = item.prompt;
  fillMeta(card, item);
  fillStage(card, item, state);
  if (changed && !calm.matches) card.animate([{ opacity: 0.4 }, { opacity: 1 }], { duration: 400, easing: "ease-out" });
}

function cardName(item, state) {
  const what = (item.prompt || item.id).slice(0, 160);
  return `${STATES[state].word}: ${what}`;
}

function badge(state) {
  const made = element("span", "badge");
  made.dataset.state = state;
  made.append(sign(state), STATES[state].word);
  return made;
}

function fillMeta(card, item) {
  const { settings } = item;
  const facts = [settings.quality, settings.duration && `${settings.duration} s`, settings.aspect_ratio];
  if (item.credits !== undefined) facts.push(`${credits(item.credits)} cr`);
  if (item.bytes !== undefined) facts.push(size(item.bytes));
  card.meta.replaceChildren(element("span", "place", `#${item.index + 1}`), ...facts.filter(Boolean).map((fact) => element("span", "", fact)));
}

function fillStage(card, item, state) {
  dropStage(card);
  card.stage.className = `stage ${state}`;
  if (state === "saved") return showFilm(card, item);
  card.stage.append(badge(state));
  if (state === "making") return showMaking(card, item);
  const advice = about.advice[state];
  const reason = item.error ?? (state === "waiting" ? "" : advice.meaning);
  if (reason) {
    const words = element("p", "reason", reason);
    words.dir = "auto";
    words.title = reason;
    card.stage.append(words);
  }
  if (state !== "waiting") card.stage.append(command(mend(item, state)));
}

const mend = (item, state) => about.advice[state].command.replace("{task}", () => item.task ?? "TASK");

function dropStage(card) {
  stopPreview(card);
  inSight.unobserve(card.stage);
  if (card.canvas) posters.forget(card.canvas);
  card.canvas = null;
  card.stage.replaceChildren();
}

function showFilm(card, item) {
  card.canvas = element("canvas", "poster");
  card.canvas.setAttribute("aria-hidden", "true");
  card.stage.append(card.canvas);
  const length = item.settings.duration;
  if (length) card.stage.append(element("span", "length", `0:${String(length).padStart(2, "0")}`));
  card.stage.classList.add("loading");
  const canvas = card.canvas;
  card.stage.appear = () => posters.want(item, canvas, (found) => {
    card.stage.classList.remove("loading");
    card.stage.classList.toggle("shown", found);
    if (!found && card.canvas === canvas && !card.stage.querySelector(".gone")) {
      card.stage.append(element("p", "gone", "The file can’t be shown: it may have been moved or removed."));
    }
  });
  inSight.observe(card.stage);
}

function showMaking(card, item) {
  card.stage.append(element("span", "shimmer"), element("p", "step"), element("p", "left"));
  tickCard(card, item);
}

// Once a second: how long it has been going on, and how long its links live.
function tickCard(card, item) {
  const step = card.stage.querySelector(".step");
  if (!step) return;
  const now = Date.now() / 1000;
  const since = item.submitted === undefined ? "" : ` · ${span(now - item.submitted)}`;
  step.textContent = `${STEPS[item.state] ?? ""}${since}`;
  card.stage.querySelector(".left").textContent = item.deadline === undefined ? "" : `link lives ${span(item.deadline - now)}`;
}

function preview(card) {
  if (card.state !== "saved" || card.video) return;
  const video = element("video", "moving");
  video.muted = video.loop = video.playsInline = true;
  video.setAttribute("aria-hidden", "true");
  video.tabIndex = -1;
  video.src = film(card.item);
  card.video = video;
  card.stage.append(video);
  video.play().catch(() => stopPreview(card));
}

function stopPreview(card) {
  const video = card.video;
  if (!video) return;
  card.video = null;
  video.pause();
  video.removeAttribute("src");
  video.load();
  video.remove();
}
