// The in-place chart: one Plotly figure that is updated, never rebuilt, so zoom and legend clicks survive.
// Python sends one JSON text as bytes: {figure, plotly, title, filename, alt, height, settle_ms, revision, player, ...}.

const NARROW_PX = 720;
let plotly = null;

/** Load plotly.js once a page, from the server the page came from (also below a base path). */
function loadPlotly(path) {
  if (window.Plotly) return Promise.resolve(window.Plotly);
  plotly ??= new Promise((resolve, reject) => {
    const bundle = document.querySelector('script[type="module"][src*="static/js/"]');
    const script = document.createElement("script");
    script.src = new URL("../../" + path, bundle ? bundle.src : document.baseURI).href;
    script.onload = () => resolve(window.Plotly);
    script.onerror = () => { plotly = null; script.remove(); reject(new Error("plotly.js did not load")); };
    document.head.appendChild(script);
  });
  return plotly;
}

/** Read the colours of Streamlit's theme where the chart stands. */
function readTheme(element) {
  const style = getComputedStyle(element);
  const read = (name, other) => style.getPropertyValue(name).trim() || other;
  const ink = read("--st-text-color", "#22262a");
  const mix = (percent) => `color-mix(in srgb, ${ink} ${percent}%, transparent)`;
  return {
    ink, paper: read("--st-background-color", "#fff"), font: read("--st-font", "sans-serif"),
    muted: rgba(element, mix(72)), grid: rgba(element, mix(9)), line: rgba(element, mix(28)),
  };
}

/** Turn any CSS colour into rgba(), the form Plotly understands. */
function rgba(element, colour) {
  const probe = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const span = document.createElement("span");
  span.style.color = colour;
  element.appendChild(span);
  probe.fillStyle = getComputedStyle(span).color;
  span.remove();
  probe.fillRect(0, 0, 1, 1);
  const [r, g, b, a] = probe.getImageData(0, 0, 1, 1).data;
  return `rgba(${r},${g},${b},${(a / 255).toFixed(3)})`;
}

/** Return the Plotly template that makes a figure take the theme's colours; the figure's own values win. */
function template(theme) {
  const axis = {
    gridcolor: theme.grid, linecolor: theme.line, zerolinecolor: theme.grid, tickcolor: theme.line,
    tickfont: { color: theme.muted }, title: { font: { color: theme.ink }, standoff: 10 },
    automargin: true, zeroline: false,
  };
  return { layout: {
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
    font: { family: theme.font, size: 13, color: theme.ink }, xaxis: axis, yaxis: axis,
    hoverlabel: { bgcolor: theme.paper, bordercolor: theme.line, align: "left",
                  font: { family: theme.font, size: 13, color: theme.ink } },
    legend: { bgcolor: "rgba(0,0,0,0)" }, modebar: { bgcolor: "rgba(0,0,0,0)", color: theme.line,
                                                     activecolor: theme.muted },
  } };
}

/** Replace the stand-ins for text colour and background (INK and PAPER in figures.py) by the theme's. */
function themed(text, theme) {
  const { figure } = JSON.parse(text.replaceAll('"#010203"', JSON.stringify(theme.ink))
                                    .replaceAll('"#030201"', JSON.stringify(theme.paper)));
  figure.layout.template = template(theme);
  figure.layout.autosize = true;
  return figure;
}

/** Leave out words that need a wide chart, and let a finger scroll past a chart that fills the screen. */
function fitted(figure, chart) {
  if (isNarrow(chart)) {
    figure.layout.annotations = figure.layout.annotations?.filter((note) => note.name !== "wide");
    if (figure.layout.legend2) figure.layout.legend2.visible = false;
  }
  if (chart.spec.height > 0.8 * innerHeight && matchMedia("(pointer: coarse)").matches)
    figure.layout.dragmode = false;
  return figure;
}

function isNarrow(chart) { return chart.host.clientWidth < NARROW_PX; }

/** Save the chart as a PNG that stands alone: with title, background and double resolution. */
function savePng(chart) {
  const { spec, theme } = chart;
  const figure = themed(chart.text, theme);
  const [title, subtitle] = [spec.title, spec.subtitle].map((text) => text || "");
  const [width, height] = spec.export;
  figure.layout.title = { text: title, subtitle: { text: subtitle, font: { size: 13, color: theme.muted } },
                          x: 0.02, xanchor: "left", y: 1 - 26 / height, yanchor: "top", font: { size: 18 } };
  const lines = subtitle.split("<br>").length;
  figure.layout.margin = { ...figure.layout.margin, t: 44 + 18 * lines + figure.layout.margin.t, l: 80, r: 40, b: 64 };
  figure.layout.paper_bgcolor = theme.paper;
  const size = { width, height, scale: 2, format: "png", filename: spec.filename };
  for (const axis of ["xaxis", "yaxis"]) {
    const shown = chart.host.layout?.[axis]?.range;
    if (shown && figure.layout[axis]) Object.assign(figure.layout[axis], { range: [...shown], autorange: false });
  }
  figure.layout.width = size.width;
  figure.layout.height = size.height;
  window.Plotly.downloadImage(figure, size);
}

/** Return the few buttons the chart needs; once a chart, since Plotly builds anew for another config. */
function config(chart) {
  const save = { name: "png", title: "Save as PNG", icon: window.Plotly.Icons.camera, click: () => savePng(chart) };
  return { displaylogo: false, responsive: false, showTips: false, displayModeBar: "hover", doubleClick: "reset",
           modeBarButtons: [["zoom2d", "pan2d", "resetScale2d"], [save]] };
}

/** Tell Python, once the chart has rested, that there is time for the finer simulation. */
function rest(chart) {
  clearTimeout(chart.timer);
  if (!chart.spec.settle_ms || chart.settled === chart.spec.revision) return;
  chart.timer = setTimeout(() => {
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
  const look = chart.text + JSON.stringify(theme) + isNarrow(chart);
  if (chart.look === look) return;
  chart.look = look;
  chart.theme = theme;
  const figure = fitted(themed(chart.text, theme), chart);
  chart.host.style.height = chart.spec.height + "px";
  chart.host.setAttribute("aria-label", chart.spec.alt);
  chart.mark.textContent = "";
  chart.config ??= config(chart);
  await Plotly.react(chart.host, figure.data, figure.layout, chart.config);
  play(chart);
  rest(chart);
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
  window.addEventListener("batchscope:png", (event) => event.detail === chart.key && savePng(chart),
                          { signal: chart.stop.signal });
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
  return () => {
    clearTimeout(chart.timer);
    if (chart.player) endPlayer(chart.player);
    chart.stop.abort();
    chart.resize.disconnect();
    if (chart.host.data) window.Plotly.purge(chart.host);
    chart.frame.remove();
    delete parentElement.bsChart;
  };
}
