// A slider's value can be typed: a click or tap on the value, or Enter on its handle, opens a field in its place.
// Enter sends {slider, text, shown} to Python, which reads and checks what was typed over the shown value (an empty
// one puts the slider back); Escape, leaving the field, and Enter on what has not changed close it.
const VALUE = '[data-testid="stSliderThumbValue"]', SLIDER = '[data-testid="stSlider"]';
const HANDLE = 'input[type="range"]';
const TYPED = /(?:^| )st-key-((?:in|page)_\S+)/;

/** Return the key of the slider that holds an element, or "" where its value is not to be typed. */
function keyOf(element) {
  const slider = element?.closest?.(SLIDER);
  const key = slider?.closest('[class*="st-key-"]')?.className.match(TYPED)?.[1] ?? "";
  return slider?.querySelectorAll(HANDLE).length === 1 ? key : "";
}

/** Open the field over the value of a slider. */
function open(key, slider, send) {
  document.querySelector(".bs-exact")?.remove();
  const value = slider.querySelector(VALUE), handle = slider.querySelector(HANDLE);
  if (!value) return;
  const field = document.createElement("input"), place = value.getBoundingClientRect();
  const label = slider.querySelector("label")?.innerText ?? "Value";
  const shown = value.innerText.replace(/ · .*/, "");
  Object.assign(field, { className: "bs-exact", value: shown, autocomplete: "off" });
  field.setAttribute("aria-label", `${label}: type a value, then Enter; empty puts it back`);
  field.setAttribute("enterkeyhint", "done");
  const width = Math.max(place.width + 32, 96);
  const left = Math.min(Math.max(place.left + place.width / 2 - width / 2, 4), innerWidth - width - 4);
  Object.assign(field.style, { left: `${left}px`, top: `${place.top - 4}px`, width: `${width}px` });
  let open = true;
  const close = () => { if (open) { open = false; field.remove(); } };
  field.onkeydown = (event) => {
    event.stopPropagation();
    if (event.key === "Escape") { close(); handle?.focus(); }
    if (event.key !== "Enter") return;
    const text = field.value.trim();
    close();
    handle?.focus();
    if (text !== shown.trim()) send({ slider: key, text, shown });
  };
  field.onblur = close;
  document.body.append(field);
  field.focus();
  field.select();
}

export default function ({ setTriggerValue }) {
  const send = (typed) => setTriggerValue("typed", typed);
  const press = (event) => {
    const key = event.target.closest?.(VALUE) ? keyOf(event.target) : "";
    if (!key) return;
    event.stopPropagation(); // the handle is not dragged; a touch that is prevented would be no click
    if (event.type === "click") open(key, event.target.closest(SLIDER), send);
  };
  const enter = (event) => {
    if (event.key !== "Enter" || !event.target.matches?.(HANDLE)) return;
    const key = keyOf(event.target);
    if (key) { event.preventDefault(); open(key, event.target.closest(SLIDER), send); }
  };
  const pressed = ["pointerdown", "mousedown", "touchstart", "click"];
  pressed.forEach((name) => document.addEventListener(name, press, { capture: true, passive: false }));
  document.addEventListener("keydown", enter, true);
  return () => {
    pressed.forEach((name) => document.removeEventListener(name, press, { capture: true }));
    document.removeEventListener("keydown", enter, true);
    document.querySelector(".bs-exact")?.remove();
  };
}
