// The grid: only rows in sight, and some around them, are in the document, however many items there are.

const grid = {
  list: [],
  cards: new Map(),
  columns: 1,
  height: 0,
  step: 0,
  at: 0,
  around: 2,

  show(list) {
    const focused = document.activeElement?.closest?.(".card")?.item?.number;
    this.list = list;
    const at = focused === undefined ? -1 : list.findIndex((item) => item.number === focused);
    this.at = at >= 0 ? at : Math.min(this.at, Math.max(list.length - 1, 0));
    this.lay();
  },

  measure() {
    const style = getComputedStyle($("grid"));
    this.gap = parseFloat(style.getPropertyValue("--gap"));
    const said = style.getPropertyValue("--card").trim();
    const body = parseFloat(style.getPropertyValue("--body"));
    const width = $("grid").clientWidth;
    const least = said.endsWith("%") ? width : parseFloat(said);
    this.columns = Math.max(1, Math.floor((width + this.gap) / (least + this.gap)));
    this.width = (width - this.gap * (this.columns - 1)) / this.columns;
    this.height = Math.round(this.width / this.shape()) + body;
    this.step = this.height + this.gap;
  },

  // Videos of one shape get cards of that shape; where shapes mix, one that does for all.
  shape() {
    const tally = new Map();
    for (const item of items.values()) tally.set(item.ratio, (tally.get(item.ratio) ?? 0) + 1);
    const [ratio, most] = [...tally].sort((a, b) => b[1] - a[1])[0] ?? [16 / 9, 0];
    const shape = most >= items.size * 0.6 ? ratio : 4 / 3;
    return Math.max(shape, 0.8);
  },

  lay() {
    this.measure();
    const rows = Math.ceil(this.list.length / this.columns);
    const box = $("grid");
    box.style.height = `${Math.max(rows * this.step - this.gap, 0)}px`;
    box.style.setProperty("--stage", `${this.height - parseFloat(getComputedStyle(box).getPropertyValue("--body"))}px`);
    this.fill();
  },

  fill() {
    const top = -$("grid").getBoundingClientRect().top;
    const first = Math.max(Math.floor(top / this.step) - this.around, 0) * this.columns;
    const last = Math.min((Math.ceil((top + innerHeight) / this.step) + this.around) * this.columns, this.list.length);
    const wanted = new Map();
    for (let at = first; at < last; at += 1) wanted.set(this.list[at].number, at);
    const held = this.list[this.at];
    if (held && !wanted.has(held.number) && this.cards.get(held.number)?.contains(document.activeElement)) wanted.set(held.number, this.at);
    for (const [number, card] of this.cards) {
      if (!wanted.has(number)) { dropStage(card); card.remove(); this.cards.delete(number); }
    }
    let before = null;
    for (const [number, at] of [...wanted].sort((a, b) => a[1] - b[1])) before = this.place(number, at, before);
  },

  // In the document in the order they are seen, for those who hear the page.
  place(number, at, before) {
    let card = this.cards.get(number);
    if (!card) {
      card = makeCard(this.list[at]);
      this.cards.set(number, card);
    } else {
      fillCard(card, this.list[at]);
    }
    const next = before ? before.nextSibling : $("grid").firstChild;
    if (card !== next) $("grid").insertBefore(card, next);
    const x = (at % this.columns) * (this.width + this.gap);
    const y = Math.floor(at / this.columns) * this.step;
    card.style.transform = `translate(${x}px, ${y}px)`;
    card.style.width = `${this.width}px`;
    card.style.height = `${this.height}px`;
    card.setAttribute("aria-posinset", at + 1);
    card.setAttribute("aria-setsize", this.list.length);
    card.open.tabIndex = at === this.at ? 0 : -1;
    return card;
  },

  go(at) {
    this.at = Math.max(0, Math.min(at, this.list.length - 1));
    const row = Math.floor(this.at / this.columns) * this.step;
    const top = $("grid").getBoundingClientRect().top + scrollY + row;
    const head = document.querySelector(".controls").getBoundingClientRect().height + 24;
    if (top - head < scrollY) scrollTo({ top: top - head });
    else if (top + this.height + 24 > scrollY + innerHeight) scrollTo({ top: top + this.height + 24 - innerHeight });
    this.fill();
    this.cards.get(this.list[this.at]?.number)?.open.focus({ preventScroll: true });
  },

  tick() {
    for (const card of this.cards.values()) tickCard(card, card.item);
  },
};
