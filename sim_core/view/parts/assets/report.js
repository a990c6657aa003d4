// Draws the charts of a report in the reader's theme, and anew when the theme changes or the report goes to paper.

const PAPER_PX = 680;  // what fits between the margins of A4 and Letter
const figures = [...document.querySelectorAll("figure")];

/** Draw all charts, as wide as the page or, on paper, as wide as that. */
function drawAll(width) {
  for (const figure of figures) {
    const host = figure.querySelector(".chart");
    const made = alone(themed(figure.querySelector("script").textContent, readTheme(host)));
    fitted(made, host, host.clientHeight);
    Object.assign(made.layout, { width, height: host.clientHeight });
    window.Plotly.react(host, made.data, made.layout, { displaylogo: false, responsive: true });
  }
}

/** Go to paper or back: light ink on dark ground is for screens. */
function setPaper(isPaper) {
  document.documentElement.classList.toggle("paper", isPaper);
  drawAll(isPaper ? PAPER_PX : undefined);
}

matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => drawAll());
addEventListener("beforeprint", () => setPaper(true));
addEventListener("afterprint", () => setPaper(false));
drawAll();
