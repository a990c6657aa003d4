// What a figure needs before Plotly can draw it: the theme's colours, and what its width allows. Shared by the charts
// of the pages (chart.js) and those of a report (report.js); both style the page with Streamlit's names (--st-...).

const NARROW_PX = 720, PHONE_PX = 480;
const LOWER_PX = 38;  // beneath the words of the best point, which reach the corner of a chart on a phone

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

/** Replace the stand-ins for colours of text and background (INK, SOFT and PAPER in figures.py) by the theme's. */
function themed(text, theme) {
  const { figure } = JSON.parse(text.replaceAll('"#010203"', JSON.stringify(theme.ink))
                                    .replaceAll('"#030201"', JSON.stringify(theme.paper))
                                    .replaceAll('"#020103"', JSON.stringify(theme.muted)));
  figure.layout.template = template(theme);
  figure.layout.autosize = true;
  return figure;
}

/** Give a figure that leaves the page the legend which the page had for it. */
function alone(figure) {
  if (!figure.layout.meta?.legend_alone) return figure;
  figure.layout.showlegend = true;
  figure.layout.margin.t += 26;
  return figure;
}

/** Leave out words that need a wide chart, and let a finger scroll past a chart that fills the screen. */
function fitted(figure, host, height) {
  if (isNarrow(host)) {
    figure.layout.annotations = figure.layout.annotations?.filter((note) => note.name !== "wide");
    if (figure.layout.legend2) figure.layout.legend2.visible = false;
  }
  if (host.clientWidth < PHONE_PX)
    for (const note of figure.layout.annotations ?? []) if (note.name === "low") note.yshift -= LOWER_PX;
  if (height > 0.8 * innerHeight && matchMedia("(pointer: coarse)").matches) figure.layout.dragmode = false;
  return figure;
}

function isNarrow(host) { return host.clientWidth < NARROW_PX; }
