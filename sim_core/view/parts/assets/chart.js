// The in-place chart: one Plotly figure that is updated, never rebuilt, so zoom and legend clicks survive.
// Python sends one JSON text as bytes: {figure, plotly, title, filename, alt, height, settle_ms, revision, player, ...}.

const LEAST_PX = 240;
const LEAST_HIGH_PX = 400, MAIN_PX = [520, 540, 560];
const BAR_PX = 32;  // of Plotly's toolbar, which stands beneath the chart where nothing hovers
// Of two calls for one element that come close together, Streamlit may clean up the later one, which is on the page.
// So nothing ends that still stands on the page a moment later.
const LINGER_MS = 500;
let plotly = null;

/** Load plotly.js once a page, from the server the page came from (also below a base path), which may have begun it. */
function loadPlotly(path) {
  if (window.Plotly) return Promise.resolve(window.Plotly);
  plotly ??= new Promise((resolve, reject) => {
    const bundle = document.querySelector('script[type="module"][src*="static/js/"]');
    const begun = document.querySelector(`script[src$="${path}"]`);
    const script = begun ?? document.createElement("script");
    script.onload = () => resolve(window.Plotly);
    script.onerror = () => { plotly = null; script.remove(); reject(new Error("plotly.js did not load")); };
    if (begun) return;
    script.src = new URL("../../" + path, bundle ? bundle.src : document.baseURI).href;
    document.head.appendChild(script);
  });
  return plotly;
}

/** Return the few buttons the chart needs; once a chart, since Plotly builds anew for another config. */
function config(chart) {
  const save = { name: "png", title: "Save as PNG", icon: window.Plotly.Icons.camera, click: () => save(chart, "png") };
  return { displaylogo: false, responsive: false, showTips: false, displayModeBar: "hover", doubleClick: "reset",
           modeBarButtons: [["zoom2d", "pan2d", "resetScale2d"], [save]] };
}

/** Tell Python, once the chart has rested, that there is time for the finer simulation. */
function rest(chart) {
  clearTimeout(chart.timer);
  if (!chart.spec.settle_ms || chart.settled === chart.spec.revision) return;
  chart.timer = setTimeout(() => {
    if (!chart.host.isConnected) return;
    chart.settled = chart.spec.revision;
    chart.mark.textContent = chart.spec.busy;
    chart.send("settled", chart.spec.revision);
    chart.timer = setTimeout(() => { chart.mark.textContent = ""; }, 60000);
  }, chart.spec.settle_ms);
}

async function draw(chart) {
  const Plotly = await loadPlotly(chart.spec.plotly).catch(() => loadPlotly(chart.spec.plotly));
  if (!chart.host.isConnected) return;
  const theme = readTheme(chart.host);
  const height = heightOf(chart);
  const look = chart.text + JSON.stringify(theme) + isNarrow(chart.host) + height;
  if (chart.look === look) return;
  chart.look = look;
  chart.theme = theme;
  const drawn = themed(chart.text, theme);
  widen(chart, drawn.layout.meta?.least_px ?? 0);
  const figure = fitted(drawn, chart.host, height);
  chart.host.style.height = height + "px";
  chart.host.setAttribute("aria-label", chart.spec.alt);
  chart.mark.textContent = "";
  chart.config ??= config(chart);
  await Plotly.react(chart.host, figure.data, figure.layout, chart.config);
  hearClicks(chart);
  explain(chart);
  play(chart);
  rest(chart);
  if (chart.spec.fill) window.dispatchEvent(new Event("resize"));  // the charts beside it may fill less now
}

/** Give a figure the width that it needs at least; where the page has less, it scrolls, by keys as well. */
function widen({ frame, host }, least) {
  const scrolls = frame.clientWidth < least;
  host.style.minWidth = scrolls ? least + "px" : "";
  frame.style.overflowX = scrolls ? "auto" : "";
  if (scrolls) frame.tabIndex = 0;
  else frame.removeAttribute("tabindex");
}

/** Tell Python which point was clicked or tapped; its name is the last of its `customdata`. */
function hearClicks(chart) {
  if (chart.listens || !chart.host.on) return;
  chart.listens = true;
  chart.host.on("plotly_click", ({ points }) => {
    const name = chart.spec.picks && points[0].customdata?.at?.(-1);
    if (name) chart.send("picked", name);
  });
}

/** Explain terms of the glossary at the axes and in the legend where they are pointed at. */
function explain({ host, spec }) {
  for (const text of host.querySelectorAll(".xtitle, .ytitle, .legendtext")) {
    const note = spec.terms?.[text.dataset.unformatted];
    if (!note || text.querySelector("title")) continue;
    text.style.pointerEvents = "all";
    text.appendChild(document.createElementNS(text.namespaceURI, "title")).textContent = note;
  }
}

/** Return how high a chart is that stands on a page. [px] A low window, in steps lest a phone's bars move it, makes a
 * main chart lower, so that it can be seen whole; higher ones have rows, which need their height. */
function onPage(height) {
  const room = Math.max(LEAST_HIGH_PX, Math.round(0.55 * innerHeight / 50) * 50);
  return MAIN_PX.includes(height) ? Math.min(height, room) : height;
}

/** Return how high the chart is. [px] In a frame of another page, charts beside one another fill what is left of it. */
function heightOf({ frame, spec }) {
  const top = (element) => Math.round(element.getBoundingClientRect().top);
  const fills = spec.fill && !spec.player && [...document.querySelectorAll(".bs-chart")].every((other) => top(other) === top(frame));
  const beneath = 16 + (matchMedia("(hover: none)").matches ? BAR_PX : 0);
  return fills ? Math.max(LEAST_PX, innerHeight - top(frame) - beneath) : onPage(spec.height);
}

/** Hand the player what it plays; a chart without anything to play has none. */
function play(chart) {
  if (!chart.player && !chart.spec.player) return;
  chart.player ??= createPlayer(chart);
  if (chart.played !== chart.spec.revision) updatePlayer(chart.player, chart.spec.player);
  chart.played = chart.spec.revision;
  follow(chart.player);
}

function create(parent) {
  const frame = document.createElement("div");
  frame.className = "bs-chart";
  const host = document.createElement("div");
  host.setAttribute("role", "figure");
  const mark = document.createElement("div");
  mark.className = "bs-chart-mark";
  mark.setAttribute("aria-live", "polite");
  frame.append(host, mark);
  parent.appendChild(frame);
  const chart = { frame, host, mark, stop: new AbortController() };
  for (const event of ["keydown", "pointerdown", "pointerup", "wheel"])
    document.addEventListener(event, () => rest(chart), { passive: true, capture: true, signal: chart.stop.signal });
  window.addEventListener("batchscope:save", ({ detail }) => detail.chart === chart.key && save(chart, detail.format),
                          { signal: chart.stop.signal });
  window.addEventListener("resize", () => chart.spec.fill && draw(chart), { signal: chart.stop.signal });
  let width = 0;
  chart.resize = new ResizeObserver(([entry]) => {
    const now = Math.round(entry.contentRect.width);
    if (width && now && now !== width && host.data) window.Plotly.Plots.resize(host).then(() => draw(chart));
    width = now;
  });
  chart.resize.observe(frame);
  return chart;
}

export default function (component) {
  const { data, parentElement, setTriggerValue } = component;
  parentElement.bsChart ??= create(parentElement);
  const chart = parentElement.bsChart;
  chart.text = new TextDecoder().decode(data);
  chart.spec = JSON.parse(chart.text);
  chart.key = chart.spec.key;
  chart.send = setTriggerValue;
  draw(chart);
  return () => setTimeout(() => { if (!parentElement.isConnected) end(parentElement); }, LINGER_MS);
}

/** End the chart of an element that has left the page. */
function end(parentElement) {
  const chart = parentElement.bsChart;
  if (!chart) return;
  clearTimeout(chart.timer);
  if (chart.player) endPlayer(chart.player);
  chart.stop.abort();
  chart.resize.disconnect();
  if (chart.host.data) window.Plotly.purge(chart.host);
  chart.frame.remove();
  delete parentElement.bsChart;
}
