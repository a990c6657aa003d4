// The line for a first visit. It is there until it is hidden, which this browser remembers; the key ? brings it back,
// with a word on keys.
const KEPT = "batchscope-start-hidden";
const TYPES = 'input:not([type="range"], [type="checkbox"], [type="radio"]), textarea, select, [contenteditable="true"]';

/** Return whether the visitor has hidden the line; a browser that keeps nothing has not. */
function isHidden() {
  try { return localStorage.getItem(KEPT) === "1"; } catch { return false; }
}

function remember(hidden) {
  try { hidden ? localStorage.setItem(KEPT, "1") : localStorage.removeItem(KEPT); } catch { /* private window */ }
}

/** Show the line, with keys if asked for by one. */
function show(host, html, all) {
  host.innerHTML = html;
  host.firstElementChild.classList.toggle("all", all);
}

function hide(host) {
  host.replaceChildren();
  remember(true);
}

export default function ({ data, parentElement, setTriggerValue }) {
  const host = (parentElement.bsStart ??= parentElement.appendChild(document.createElement("div")));
  if (isHidden()) host.replaceChildren();
  else if (!host.firstElementChild) show(host, data, false);
  const press = (event) => {
    const link = event.target.closest?.(".bs-start a");
    if (event.target.closest?.(".bs-start button")) hide(host);
    if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    setTriggerValue("go", link.dataset.page);
  };
  const key = (event) => {
    if (event.key !== "?" || event.ctrlKey || event.metaKey || event.target.matches?.(TYPES)) return;
    if (host.querySelector(".bs-start.all")) return hide(host);
    remember(false);
    show(host, data, true);
    host.querySelector("a").focus();
  };
  host.addEventListener("click", press);
  document.addEventListener("keydown", key);
  return () => {
    host.removeEventListener("click", press);
    document.removeEventListener("keydown", key);
  };
}
