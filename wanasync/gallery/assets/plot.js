// Submissions against refusals over time, out of the samples that runs wrote down.

const pace = { samples: about.pace };

// Several machines tell of theirs, and not in the order of time.
function addSamples(samples) {
  const known = new Set(pace.samples.map((sample) => `${sample.run} ${sample.at}`));
  const fresh = samples.filter((sample) => !known.has(`${sample.run} ${sample.at}`));
  pace.samples = [...pace.samples, ...fresh].sort((one, other) => one.at - other.at);
}

// What happened between two samples of one run; several may go on at once.
function paceSteps(samples) {
  const before = new Map();
  return samples.map((sample) => {
    const start = before.get(sample.run) ?? { at: sample.run, accepted: 0, refused: 0, saved: 0 };
    before.set(sample.run, sample);
    return {
      from: start.at,
      to: sample.at,
      accepted: Math.max(sample.accepted - start.accepted, 0),
      refused: Math.max(sample.refused - start.refused, 0),
      saved: Math.max(sample.saved - start.saved, 0),
    };
  });
}

// What happened in the last seconds before the last sample, in all runs that told of it: how much a second.
function paceOfLate(name, seconds) {
  const last = pace.samples.at(-1)?.at ?? 0;
  const late = paceSteps(pace.samples).filter((step) => step.to > last - seconds);
  const from = Math.min(...late.map((step) => Math.max(step.from, last - seconds)));
  const sum = late.reduce((so, step) => so + step[name] * Math.min((step.to - (last - seconds)) / Math.max(step.to - step.from, 1e-9), 1), 0);
  return { sum, seconds: last - from };
}

// Into `count` equal bins; what lies across their edges is shared out.
function paceBins(steps, from, to, count) {
  const width = (to - from) / count;
  const bins = Array.from({ length: count }, () => ({ accepted: 0, refused: 0 }));
  for (const step of steps) {
    const length = Math.max(step.to - step.from, 1e-9);
    const first = Math.max(Math.floor((step.from - from) / width), 0);
    const last = Math.min(Math.floor((step.to - from) / width), count - 1);
    for (let at = first; at <= last; at += 1) {
      const start = Math.max(step.from, from + at * width);
      const share = Math.max(Math.min(step.to, from + (at + 1) * width) - start, 0) / length;
      bins[at].accepted += step.accepted * share;
      bins[at].refused += step.refused * share;
    }
  }
  return bins;
}

function niceMost(value) {
  const power = 10 ** Math.floor(Math.log10(Math.max(value, 1)));
  return [1, 2, 5, 10].map((step) => step * power).find((step) => step >= value) ?? value;
}

function drawPace() {
  const { samples } = pace;
  $("pace").hidden = samples.length < 2;
  if (samples.length < 2) return;
  const running = isRunning();
  const from = Math.min(...samples.slice(0, 50).map((sample) => sample.run), samples[0].at);
  const to = Math.max(running ? Date.now() / 1000 : 0, samples.at(-1).at, from + 10);
  const width = Math.max($("plot").clientWidth, 200);
  const height = 132;
  const box = { left: 42, right: 4, top: 8, bottom: 20 };
  const count = Math.max(Math.min(Math.floor((width - box.left) / 7), 160, Math.ceil(to - from)), 10);
  const bins = paceBins(paceSteps(samples), from, to, count);
  const minutes = (to - from) / count / 60;
  const most = niceMost(Math.max(...bins.map((bin) => (bin.accepted + bin.refused) / minutes)));
  const x = (at) => box.left + ((at - from) / (to - from)) * (width - box.left - box.right);
  const y = (rate) => height - box.bottom - (rate / most) * (height - box.top - box.bottom);
  const svg = drawn("svg", { viewBox: `0 0 ${width} ${height}`, width, height, "aria-hidden": "true" });
  drawPauses(svg, samples, to, x, box.top, height - box.bottom);
  drawAxes(svg, { from, to, most, x, y, width, height, box });
  drawBars(svg, bins, minutes, { x, y, from, step: (to - from) / count });
  $("plot").replaceChildren(svg);
  tellPace(samples, running);
}

function drawPauses(svg, samples, to, x, top, bottom) {
  samples.forEach((sample, place) => {
    if (sample.paused_until === undefined) return;
    // The next sample knows better how it went on.
    const end = Math.min(sample.paused_until, samples[place + 1]?.at ?? to, to);
    svg.append(drawn("rect", { class: "paused", x: x(sample.at), y: top, width: Math.max(x(end) - x(sample.at), 1), height: bottom - top }));
  });
}

function drawAxes(svg, { from, to, most, x, y, width, height, box }) {
  for (const rate of [0, most / 2, most]) {
    svg.append(drawn("line", { class: "rule", x1: box.left, x2: width - box.right, y1: y(rate), y2: y(rate) }));
    const label = drawn("text", { x: box.left - 6, y: y(rate) + 4, "text-anchor": "end" });
    label.textContent = number(rate);
    svg.append(label);
  }
  for (const [at, anchor] of [[from, "start"], [(from + to) / 2, "middle"], [to, "end"]]) {
    const label = drawn("text", { x: x(at), y: height - 4, "text-anchor": anchor });
    label.textContent = clock(at, to - from < 600);
    svg.append(label);
  }
}

function drawBars(svg, bins, minutes, { x, y, from, step }) {
  bins.forEach((bin, at) => {
    const left = x(from + at * step);
    const width = Math.max(x(from + (at + 1) * step) - left - 1, 1);
    const accepted = bin.accepted / minutes;
    const refused = bin.refused / minutes;
    if (accepted > 0) svg.append(drawn("rect", { class: "accepted", x: left, width, y: y(accepted), height: y(0) - y(accepted), rx: 1 }));
    if (refused > 0) {
      const height = Math.max(y(accepted) - y(accepted + refused), 2);
      svg.append(drawn("rect", { class: "refused", x: left, width, y: y(accepted) - height, height, rx: 1 }));
    }
  });
}

function tellPace(samples, running) {
  const last = samples.at(-1);
  const late = paceOfLate("accepted", 60);
  const rate = (late.sum / Math.max(late.seconds, 1)) * 60;
  const totals = paceSteps(samples).reduce((sum, step) => ({ accepted: sum.accepted + step.accepted, refused: sum.refused + step.refused }), { accepted: 0, refused: 0 });
  const words = [`${number(totals.accepted)} accepted, ${number(totals.refused)} refused`];
  if (running) words.unshift(`${number(Math.round(rate))} a minute`);
  if (last.requests) words.push(`limit found: ${last.requests} in ${span(last.per)}`);
  if (last.concurrent) words.push(`${last.concurrent} tasks at once`);
  $("pace-words").textContent = words.join(" · ");
  $("plot").setAttribute("role", "img");
  $("plot").setAttribute("aria-label", `Submissions a minute over time: ${words.join(", ")}`);
}
