// The player: a cursor that runs over a finished chart without asking the server. What lies in the future is
// veiled; a line of words per policy says what its engine does at the cursor. At the end of time nothing is
// veiled, so the chart at rest is the whole picture.

const SPEEDS = [1, 2, 5].flatMap((step) => [-3, -2, -1, 0, 1, 2].map((power) => step * 10 ** power)).sort((a, b) => a - b);
const USUAL_S = 20;      // a run takes about this long to play
const LEAP = 1 / 20;     // of the run: shift and an arrow key
const WORDS_MS = 120;    // words change no faster than can be read
const CALM_MS = 500;     // and the cursor no faster than this for those who want little motion
const NOW_S = 1e-6;

const ICONS = {
  play: "M5 3.2v11.6L15 9z", pause: "M4.5 3.5h3v11h-3zM10.5 3.5h3v11h-3z",
  back: "M4 3.5h2.2v11H4zM14.5 3.5v11L7 9z", forward: "M11.8 3.5H14v11h-2.2zM3.5 3.5v11L11 9z",
};

function button(name, label, press) {
  const made = document.createElement("button");
  made.type = "button";
  made.dataset.action = name;
  setIcon(made, name, label);
  made.addEventListener("click", press);
  return made;
}

function setIcon(made, name, label) {
  if (made.title === label) return;
  made.title = label;
  made.setAttribute("aria-label", label);
  made.innerHTML = `<svg viewBox="0 0 18 18" aria-hidden="true"><path d="${ICONS[name]}"/></svg>`;
}

/** Return a time with the digits that matter in this run. */
function timeWords(seconds, span) {
  const digits = Math.max(0, Math.min(4, 3 - Math.floor(Math.log10(span))));
  return seconds.toFixed(digits) + "\u202fs";
}

/** Return the last index whose value is at most `value`, -1 if none. */
function lastBefore(values, value) {
  let low = 0, high = values.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (values[middle] <= value) low = middle + 1; else high = middle;
  }
  return low - 1;
}

// What a policy's engine does at a moment. A row of the log is a run of equal steps: step k lasts first + growth k.

function rowEnd(log, row) { return log.start[row] + stepStart(log, row, log.count[row]); }

/** Return when step k of a row starts, counted from the row's start. */
function stepStart(log, row, k) { return k * log.first[row] + log.growth[row] * k * (k - 1) / 2; }

/** Return the step that runs at a moment: {row, k}; k is the row's count once the row is over. */
function stepAt(log, time) {
  const row = lastBefore(log.start, time + NOW_S);
  if (row < 0) return { row, k: 0 };
  const past = time + NOW_S - log.start[row], half = log.growth[row] / 2, slope = log.first[row] - half;
  let k = Math.abs(half) > 1e-12 ? (Math.sqrt(Math.max(slope * slope + 4 * half * past, 0)) - slope) / (2 * half)
                                 : past / log.first[row];
  return { row, k: Math.max(0, Math.min(log.count[row], Math.floor(k))) };
}

/** Return the first boundary between steps after a moment (direction 1) or the last before it (-1). */
function boundary(log, time, direction) {
  const { row, k } = stepAt(log, time);
  if (direction > 0) {
    if (row < 0) return log.start[0] ?? Infinity;
    if (k < log.count[row]) return log.start[row] + stepStart(log, row, k + 1);
    return log.start[row + 1] ?? Infinity;
  }
  if (row < 0) return -Infinity;
  const here = log.start[row] + stepStart(log, row, k);
  if (here < time - NOW_S) return here;
  if (k > 0) return log.start[row] + stepStart(log, row, k - 1);
  if (row === 0) return -Infinity;
  const end = rowEnd(log, row - 1);
  return end < time - NOW_S ? end : log.start[row - 1] + stepStart(log, row - 1, log.count[row - 1] - 1);
}

/** Return a count that changes now and then, at a moment: times and values side by side. */
function countAt([times, values], time) { return values[lastBefore(times, time + NOW_S)] ?? 0; }

/** Return the steps with decodes that are over by a moment. */
function decodeSteps(log, time) {
  const { row, k } = stepAt(log, time);
  return row < 0 ? 0 : log.decodesBefore[row] + (log.decodes[row] ? k : 0);
}

/** Return the tokens given out by a moment: one for each request that decodes in a step, one for each prompt. */
function tokensAt(log, time) {
  const [times, running] = log.decoding, here = lastBefore(times, time + NOW_S);
  const finished = lastBefore(log.prompt_ends, time + NOW_S) + 1;
  if (here < 0) return finished;
  return finished + log.tokensBefore[here] + running[here] * (decodeSteps(log, time) - log.stepsBefore[here]);
}

function counted(amount, word) {
  return `${amount.toLocaleString("en")} ${word}${amount === 1 ? "" : "s"}`;
}

function short(value) {
  if (!isFinite(value)) return "–";
  return value >= 100 ? Math.round(value).toLocaleString("en") : String(Number(value.toPrecision(3)));
}

/** Say what a policy's engine does at a moment, in fewer words on a narrow screen. */
function say(log, time, narrow) {
  time = Math.min(time, log.end);
  const rate = `${short(tokensAt(log, time) / Math.max(time - log.from, NOW_S))} tok/s`;
  const done = lastBefore(log.done, time + NOW_S) + 1;
  if (log.over && time >= log.end - NOW_S)
    return `done · ${counted(done, "request")} · ${counted(log.total, "step")} · ${rate}`;
  const { row, k } = stepAt(log, Math.min(time, log.end - 2 * NOW_S));
  if (row < 0 || k >= log.count[row]) return `idle · ${counted(done, "request")} done · ${rate}`;
  const work = [decodesWords(log, row, time), promptWords(log, row, narrow)].filter(Boolean).join(" + ");
  const waiting = `${countAt(log.queue, time).toLocaleString("en")} waiting`;
  if (narrow) return `${work} · ${waiting} · ${rate}`;
  return `step ${(log.before[row] + k + 1).toLocaleString("en")} · ${work} · ${waiting} · ${rate} so far`;
}

function decodesWords(log, row, time) {
  if (!log.decodes[row]) return "";
  const padded = countAt(log.padding, time);
  return counted(log.decodes[row] - padded, "decode") + (padded ? ` + ${padded} padding` : "");
}

function promptWords(log, row, narrow) {
  const tokens = log.prefill_tokens[row], who = log.who[row];
  if (!tokens) return "";
  if (narrow || !who) return `${tokens.toLocaleString("en")} prompt`;
  return counted(tokens, "prompt token") + (who[1] > 1 ? ` of ${who[1]} requests` : ` of request ${who[0]}`);
}

/** Make the controls and the overlay; they stay hidden until there is something to play. */
function createPlayer(chart) {
  const player = { chart, time: Infinity, playing: false, rate: 0, veils: [], lines: [], top: 0 };
  const bar = document.createElement("div");
  bar.className = "bs-player";
  bar.hidden = true;
  const controls = document.createElement("div");
  controls.className = "bs-player-controls";
  controls.setAttribute("role", "group");
  controls.setAttribute("aria-label", "Player");
  player.back = button("back", "Step back", () => step(player, -1));
  player.toggle = button("play", "Play", () => setPlaying(player, !player.playing));
  player.forward = button("forward", "Step forward", () => step(player, 1));
  player.range = document.createElement("input");
  Object.assign(player.range, { type: "range", min: 0, max: 10000, step: 1, value: 10000 });
  player.range.setAttribute("aria-label", "Time");
  player.range.addEventListener("input", () => scrub(player));
  player.clock = document.createElement("span");
  player.clock.className = "bs-player-clock";
  player.speed = document.createElement("select");
  player.speed.setAttribute("aria-label", "Speed, against real time");
  player.speed.title = "Speed, against real time";
  player.speed.addEventListener("change", () => { player.rate = player.chosen = Number(player.speed.value); });
  controls.append(player.back, player.toggle, player.forward, player.range, player.clock, player.speed);
  player.said = document.createElement("div");
  player.said.className = "bs-player-said";
  bar.append(controls, player.said);
  player.overlay = document.createElement("div");
  player.overlay.className = "bs-player-overlay";
  player.overlay.setAttribute("aria-hidden", "true");
  player.cursor = document.createElement("div");
  player.cursor.className = "bs-player-cursor";
  player.hair = document.createElement("div");
  player.hair.className = "bs-player-hair";
  player.overlay.append(player.hair, player.cursor);
  player.bar = bar;
  chart.frame.prepend(bar);
  chart.frame.append(player.overlay);
  makeHandle(player);
  listen(player);
  return player;
}

/** Let the cursor be dragged by its head, by mouse, pen or finger. */
function makeHandle(player) {
  const handle = document.createElement("div");
  handle.className = "bs-player-handle";
  player.cursor.append(handle);
  const move = (event) => {
    const axis = player.chart.host._fullLayout.xaxis;
    const left = player.chart.host.getBoundingClientRect().left + axis._offset;
    seek(player, axis.p2l(event.clientX - left));
  };
  handle.addEventListener("pointerdown", (event) => {
    setPlaying(player, false);
    handle.setPointerCapture(event.pointerId);
    handle.addEventListener("pointermove", move);
    event.preventDefault();
  });
  for (const end of ["pointerup", "pointercancel"])
    handle.addEventListener(end, () => handle.removeEventListener("pointermove", move));
}

function listen(player) {
  const { chart } = player;
  chart.frame.addEventListener("keydown", (event) => pressed(player, event));
  chart.host.addEventListener("pointermove", (event) => showHair(player, event));
  chart.host.addEventListener("pointerleave", () => { player.hair.style.visibility = "hidden"; });
  chart.host.addEventListener("pointerdown", () => player.data && chart.host.focus({ preventScroll: true }), true);
}

/** Show a hairline through all panels under the mouse: what happened at the same time. */
function showHair(player, event) {
  if (!player.places || event.pointerType !== "mouse") return;
  const x = event.clientX - player.overlay.getBoundingClientRect().left;
  player.hair.style.visibility = x >= 0 && x <= player.places.width ? "visible" : "hidden";
  player.hair.style.transform = `translateX(${x}px)`;
}

function pressed(player, event) {
  if (!player.data || event.ctrlKey || event.metaKey || event.altKey) return;
  const at = event.target;
  if (at.tagName === "SELECT" || (at.tagName === "BUTTON" && [" ", "Enter"].includes(event.key))) return;
  const { start, end } = player.data;
  const actions = {
    " ": () => setPlaying(player, !player.playing),
    ArrowRight: () => event.shiftKey ? leap(player, 1) : step(player, 1),
    ArrowLeft: () => event.shiftKey ? leap(player, -1) : step(player, -1),
    Home: () => seek(player, start),
    End: () => seek(player, end),
  };
  if (at === player.range) { actions.ArrowUp = actions.ArrowRight; actions.ArrowDown = actions.ArrowLeft; }
  const act = actions[event.key];
  if (!act) return;
  event.preventDefault();
  event.stopPropagation();
  act();
}

/** Take new data; the visitor's moment and speed stay where they make sense. */
function updatePlayer(player, data) {
  const rested = !player.data || player.time >= player.data.end;
  player.data = data ?? null;
  player.bar.hidden = player.overlay.hidden = !data;
  player.chart.host.tabIndex = data ? 0 : -1;
  if (!data) { setPlaying(player, false); return; }
  for (const log of data.policies) prepareLog(log);
  player.time = rested && !player.playing ? data.end : Math.min(Math.max(player.time, data.start), data.end);
  offerSpeeds(player);
  makeLines(player);
  show(player, true);
}

/** Add what can be summed once: steps, steps with decodes, and tokens before each row and each change. */
function prepareLog(log) {
  const sums = (counts) => { let sum = 0; return counts.map((count) => { sum += count; return sum - count; }); };
  log.before = sums(log.count);
  log.total = log.count.reduce((sum, count) => sum + count, 0);
  log.decodesBefore = sums(log.count.map((count, row) => log.decodes[row] ? count : 0));
  log.stepsBefore = log.decoding[0].map((time) => decodeSteps(log, time));
  log.tokensBefore = sums(log.stepsBefore.map((steps, at) => log.decoding[1][at] * ((log.stepsBefore[at + 1] ?? steps) - steps)));
}

/** Offer speeds at which a run takes from a few seconds to two minutes. */
function offerSpeeds(player) {
  const span = player.data.end - player.data.start;
  const good = SPEEDS.filter((rate) => span / rate <= 130 && span / rate >= 4);
  const usual = (good.length ? good : SPEEDS).reduce((best, rate) =>
    Math.abs(Math.log(span / rate / USUAL_S)) < Math.abs(Math.log(span / best / USUAL_S)) ? rate : best);
  const offered = good.length ? good : [usual];
  player.rate = offered.includes(player.chosen) ? player.chosen : usual;
  player.speed.replaceChildren(...offered.map((rate) => {
    const option = document.createElement("option");
    option.value = rate;
    const seconds = span / rate;
    option.textContent = `${rate}× · ${seconds >= 10 ? Math.round(seconds) : seconds.toFixed(1)}\u202fs`;
    option.selected = rate === player.rate;
    return option;
  }));
}

function makeLines(player) {
  player.lines = player.data.policies.map((log) => {
    const line = document.createElement("div"), name = document.createElement("b"), words = document.createElement("span");
    name.textContent = log.name;
    name.style.setProperty("--colour", log.colour);
    line.append(name, words);
    return { line, words };
  });
  player.said.replaceChildren(...player.lines.map(({ line }) => line));
}

function setPlaying(player, playing) {
  if (player.playing === playing) return;
  player.playing = playing;
  setIcon(player.toggle, playing ? "pause" : "play", playing ? "Pause" : "Play");
  if (!playing) { cancelAnimationFrame(player.frame); show(player, true); return; }
  if (player.time >= player.data.end) player.time = player.data.start;
  player.last = performance.now();
  player.frame = requestAnimationFrame((now) => tick(player, now));
}

function tick(player, now) {
  if (!player.playing || !player.data) return;
  const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
  if (!calm || now - player.last >= CALM_MS) {
    player.time += (now - player.last) / 1000 * player.rate;
    player.last = now;
    if (player.time >= player.data.end) { player.time = player.data.end; setPlaying(player, false); return; }
    show(player, false);
  }
  player.frame = requestAnimationFrame((later) => tick(player, later));
}

function seek(player, time) {
  player.time = Math.min(Math.max(time, player.data.start), player.data.end);
  show(player, true);
}

function scrub(player) {
  const { start, end } = player.data;
  seek(player, start + (end - start) * player.range.value / player.range.max);
}

function leap(player, direction) {
  seek(player, player.time + direction * LEAP * (player.data.end - player.data.start));
}

/** Go to the next boundary between steps of any policy. */
function step(player, direction) {
  setPlaying(player, false);
  const found = player.data.policies.map((log) => boundary(log, player.time, direction));
  seek(player, direction > 0 ? Math.min(...found) : Math.max(...found));
}

/** Show the moment: cursor, veil, controls, and the words, these at most every `WORDS_MS` unless `now`. */
function show(player, now) {
  const { start, end } = player.data, span = end - start;
  paint(player);
  player.range.value = Math.round((player.time - start) / span * player.range.max);
  const time = performance.now();
  if (!now && time - player.spoke < WORDS_MS) return;
  player.spoke = time;
  const words = `${timeWords(player.time, span)} of ${timeWords(end, span)}`;
  player.clock.textContent = words;
  player.range.setAttribute("aria-valuetext", words);
  const narrow = isNarrow(player.chart);
  player.data.policies.forEach((log, index) => {
    player.lines[index].words.textContent = say(log, player.time, narrow);
  });
}

/** Put cursor and veils where the chart's axes are now; called for each frame, so nothing is measured here. */
function paint(player) {
  const places = player.places;
  if (!places || !player.data) return;
  const x = Math.max(0, places.axis.l2p(player.time)), inside = x <= places.width && player.time < player.data.end;
  player.overlay.classList.toggle("on", player.time < player.data.end);
  player.cursor.style.visibility = inside && places.axis.l2p(player.time) >= -0.5 ? "visible" : "hidden";
  player.cursor.style.transform = `translateX(${x}px)`;
  const left = Math.min(x, places.width);
  for (const veil of player.veils) veil.style.transform = `translateX(${left}px) scaleX(${1 - left / places.width})`;
}

/** Measure where the chart's panels are: after each drawing, zoom, pan and resize. */
function place(player) {
  const layout = player.chart.host._fullLayout;
  if (!layout?.xaxis || !player.data) return;
  const axis = layout.xaxis, panels = Object.values(layout._plots).map((plot) => plot.yaxis);
  const spans = panels.map((panel) => [panel._offset, panel._length]);
  player.places = { axis, width: axis._length };
  while (player.veils.length < spans.length) {
    const veil = document.createElement("div");
    veil.className = "bs-player-veil";
    player.overlay.prepend(veil);
    player.veils.push(veil);
  }
  while (player.veils.length > spans.length) player.veils.pop().remove();
  const { overlay, cursor } = player;
  overlay.style.top = player.chart.host.offsetTop + "px";
  overlay.style.left = player.chart.host.offsetLeft + axis._offset + "px";
  overlay.style.width = axis._length + "px";
  overlay.style.setProperty("--paper", player.chart.theme.paper);
  const over = (index) => index < player.data.policies.length ? 7 : 0;  // marks above a panel's first row
  spans.forEach(([top, height], index) => Object.assign(player.veils[index].style,
    { top: top - over(index) + "px", height: height + over(index) + 1 + "px", width: axis._length + "px" }));
  const top = Math.min(...spans.map(([start]) => start)), bottom = Math.max(...spans.map(([start, size]) => start + size));
  Object.assign(cursor.style, { top: top - 8 + "px", height: bottom - top + 8 + "px" });
  Object.assign(player.hair.style, { top: top + "px", height: bottom - top + "px" });
  paint(player);
}

/** Follow the chart; once a chart, after its first drawing. */
function follow(player) {
  if (!player.followed && player.chart.host.on) {
    player.followed = true;
    for (const event of ["plotly_afterplot", "plotly_relayout", "plotly_relayouting"])
      player.chart.host.on(event, () => place(player));
  }
  place(player);
}

function endPlayer(player) {
  player.playing = false;
  cancelAnimationFrame(player.frame);
}
