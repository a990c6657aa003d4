// An image of a chart that stands alone: title, finding, configuration and version stand above the drawing.

const SAFE_FONT = "Helvetica, Arial, sans-serif";  // an image has no web fonts, so it is measured without them, too
const SIDE_PX = 24, TITLE_PX = 18, TEXT_PX = 14, LEADING = 1.3;

/** Break a text into lines that are no wider than `width` in a font. */
function wrapped(text, width, font) {
  const pen = document.createElement("canvas").getContext("2d");
  pen.font = font;
  const lines = [];
  for (const word of text.split(" ").filter(Boolean)) {
    const longer = lines.length ? `${lines.at(-1)} ${word}` : word;
    if (lines.length && pen.measureText(longer).width <= width) lines[lines.length - 1] = longer;
    else lines.push(word);
  }
  return lines;
}

/** Return a text as Plotly shows it: what looks like a tag is none. */
function plain(text) { return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;"); }

/** Return the lines above the drawing: the title, the finding, and muted the configuration with the version. */
function heading({ title, finding, subtitle, version }, theme, width) {
  const lines = (text, px, weight = 400) => wrapped(text, width, `${weight} ${px}px ${theme.font}`);
  const setup = `${subtitle}${subtitle ? " · " : ""}Batchscope ${version}`.split("<br>");
  const muted = (line) => `<span style="color:${theme.muted}">${plain(line)}</span>`;
  return {
    title: lines(title, TITLE_PX, 600).map(plain),
    rest: [...lines(finding, TEXT_PX).map(plain), ...setup.flatMap((line) => lines(line, TEXT_PX)).map(muted)],
  };
}

/** Save the chart as it is zoomed, as "png" (at double resolution) or "svg"; long words make the image higher. */
function save(chart, format) {
  const { spec } = chart, theme = { ...chart.theme, font: SAFE_FONT };
  const figure = alone(themed(chart.text, theme));
  const [width, drawn] = spec.export;
  const { title, rest } = heading(spec, theme, 0.97 * (width - 2 * SIDE_PX));
  const top = SIDE_PX + LEADING * (TITLE_PX * title.length + TEXT_PX * rest.length) + 12;
  const height = Math.round(drawn + top);
  figure.layout.title = {
    text: `<b>${title.join("<br>")}</b>`, font: { size: TITLE_PX }, x: SIDE_PX / width, xanchor: "left",
    y: 1 - (SIDE_PX + 2) / height, yanchor: "top", subtitle: { text: rest.join("<br>"), font: { size: TEXT_PX } },
  };
  figure.layout.margin = { ...figure.layout.margin, t: top + figure.layout.margin.t, l: 80, r: 40, b: 64 };
  figure.layout.paper_bgcolor = theme.paper;
  for (const axis of ["xaxis", "yaxis"]) {
    const shown = chart.host.layout?.[axis]?.range;
    if (shown && figure.layout[axis]) Object.assign(figure.layout[axis], { range: [...shown], autorange: false });
  }
  Object.assign(figure.layout, { width, height });
  window.Plotly.downloadImage(figure, { format, width, height, scale: format === "png" ? 2 : 1, filename: spec.filename });
}
