// A countdown that runs in the browser: {id, left_s}. When it is over it says so once, and the page is drawn again.

const PERIOD_MS = 200;

/** Return what is left as minutes and seconds. */
function words(left_s) {
  const whole = Math.max(0, Math.ceil(left_s));
  return `${Math.floor(whole / 60)}:${String(whole % 60).padStart(2, "0")}`;
}

export default function ({ data, parentElement, setTriggerValue }) {
  let clock = parentElement.querySelector(".bs-countdown");
  if (!clock) {
    clock = document.createElement("div");
    clock.className = "bs-countdown";
    clock.setAttribute("role", "timer");
    parentElement.appendChild(clock);
  }
  const ends = performance.now() + 1000 * data.left_s;
  const show = () => {
    const left_s = (ends - performance.now()) / 1000, gone = !clock.isConnected;
    clock.textContent = words(left_s);
    if (left_s > 0 && !gone) return;
    clearInterval(clock.bsTimer);
    if (!gone) setTriggerValue("over", data.id);
  };
  clearInterval(clock.bsTimer);
  clock.bsTimer = setInterval(show, PERIOD_MS);
  show();
}
