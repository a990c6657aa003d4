// An image of a chart that stands alone: title, finding, configuration and version stand above the drawing.

const SAFE_FONT = "Helvetica, Arial, sans-serif";  // an image has no web fonts, so it is measured without them, too
const SIDE_PX = 24, TITLE_PX = 18, TEXT_PX = 14, LEADING = 1.3;
const SLIDE = { width: 1280, height: 720, scale: 1.5 };  // 1920 x 1080 pixels

/** Return a function that measures how wide a text is in a font. [px] */
function ruler(font) {
  const pen = document.createElement("canvas").getContext("2d");
  pen.font = font;
  return (text) => pen.measureText(text).width;
}

/** Break a text into lines that are no wider than `width` in a font. */
function wrapped(text, width, font) {
  const widthOf = ruler(font), lines = [];
  for (const word of text.split(" ").filter(Boolean)) {
    const longer = lines.length ? `${lines.at(-1)} ${word}` : word;
    if (lines.length && widthOf(longer) <= width) lines[lines.length - 1] = longer;
    else lines.push(word);
  }
  return lines;
}

/** Return a text as Plotly shows it: what looks like a tag is none. */
function plain(text) { return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;"); }

/** Return the lines above the drawing: the title, the finding, and muted the configuration and where it is from. */
function heading({ title, finding, subtitle }, more, source, theme, width) {
  const lines = (text, px, weight = 400) => wrapped(text, width, `${weight} ${px}px ${theme.font}`);
  const setup = [...subtitle.split("<br>"), source].filter(Boolean);
  const muted = (line) => `<span style="color:${theme.muted}">${plain(line)}</span>`;
  return {
    title: lines(title, TITLE_PX, 600).map(plain),
    rest: [...[finding, ...more].flatMap((line) => lines(line, TEXT_PX)).map(plain),
           ...setup.flatMap((line) => lines(line, TEXT_PX)).map(muted)],
  };
}

/** Return the source line of a slide; a link that is longer than a line, and than can be copied by hand, is left out. */
function sourceLine({ version }, width) {
  const link = ruler(`400 ${TEXT_PX}px ${SAFE_FONT}`)(location.href) <= width ? `, ${location.href}` : "";
  return `Source: Batchscope ${version}, ${new Date().toISOString().slice(0, 10)}${link}`;
}

/** Save the chart as it is zoomed: as "png" (at double resolution) or "svg", which long words make higher, or as a
 * "slide", a PNG of 1920 x 1080 pixels whose heading has the pinned points and the source as well. */
function save(chart, format) {
  const { spec } = chart, theme = { ...chart.theme, font: SAFE_FONT }, slide = format === "slide";
  const figure = alone(themed(chart.text, theme));
  const [width, drawn] = slide ? [SLIDE.width, 0] : spec.export;
  const room = 0.97 * (width - 2 * SIDE_PX);
  const [more, source] = slide ? [spec.slide, sourceLine(spec, room)] : [[], `Batchscope ${spec.version}`];
  const { title, rest } = heading(spec, more, source, theme, room);
  const top = SIDE_PX + LEADING * (TITLE_PX * title.length + TEXT_PX * rest.length) + 12;
  const height = slide ? SLIDE.height : Math.round(drawn + top);
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
  const scale = { png: 2, svg: 1, slide: SLIDE.scale }[format];
  const filename = `${spec.filename}${slide ? "-slide" : ""}`;
  window.Plotly.downloadImage(figure, { format: slide ? "png" : format, width, height, scale, filename });
}
