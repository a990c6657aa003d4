// What Streamlit's own markup leaves out for keyboards and screen readers.
const BUTTON = '[data-testid="stPopoverButton"][aria-expanded="true"]', PANEL = '[data-testid="stPopoverBody"]';
const CONTROLS = 'a[href], button:not([disabled]), input:not([disabled]), textarea:not([disabled]), [tabindex]';
const SECTIONS = '[data-testid="stSidebarNavItems"] > div';

/** Return what the Tab key reaches in a panel, in order. */
function controls(panel) {
  return [...panel.querySelectorAll(CONTROLS)].filter((one) => one.tabIndex >= 0 && one.getClientRects().length);
}

/** Let an open panel (Share, Mine, Axes) follow its button, though it stands at the end of the document: Tab on the
 * button goes into it, Tab on its last control goes on behind the button. */
function tab(event) {
  if (event.key !== "Tab") return;
  const panel = document.querySelector(PANEL), button = document.querySelector(BUTTON);
  if (!panel || !button) return;
  const inside = controls(panel), here = document.activeElement;
  if (here === button && !event.shiftKey && inside.length) {
    event.preventDefault();
    inside[0].focus();
  } else if (here === inside.at(0) && event.shiftKey) {
    event.preventDefault();
    button.focus();
  } else if (here === inside.at(-1) && !event.shiftKey) button.focus(); // from where the browser goes on
}

/** Make each section of a phone's navigation an entry of the list it stands in: it holds entries without a list. */
function list() {
  for (const section of document.querySelectorAll(SECTIONS)) {
    section.setAttribute("role", "listitem");
    for (const entry of section.querySelectorAll("li")) entry.setAttribute("role", "none");
  }
}

const later = () => setTimeout(list, 300); // a tap or less room may have put the navigation in the sidebar

export default function () {
  list();
  document.addEventListener("keydown", tab, true);
  document.addEventListener("click", later, true);
  addEventListener("resize", later);
  return () => {
    document.removeEventListener("keydown", tab, true);
    document.removeEventListener("click", later, true);
    removeEventListener("resize", later);
  };
}
