// What a visitor keeps stands in this browser's storage, as one TOML text, and nowhere else. Python is told what is
// there where it knows otherwise ({known}), also when another tab has changed it, and has a text written by {write}.
const NAME = "batchscope-mine", MOST = 200_000; // characters, as Python reads them

/** Return what the browser keeps, "" where it keeps nothing. */
function read() {
  try { return (localStorage.getItem(NAME) ?? "").slice(0, MOST + 1); } catch { return ""; }
}

/** Write a text; return whether the browser keeps it. */
function write(text) {
  try {
    text ? localStorage.setItem(NAME, text) : localStorage.removeItem(NAME);
    return true;
  } catch { return false; }
}

export default function ({ data, setStateValue }) {
  let failed = false;
  if (data.write !== null && data.turn !== window.batchscopeMineTurn) {
    window.batchscopeMineTurn = data.turn;
    failed = !write(data.write);
  }
  if (failed) setStateValue("kept", { failed, text: data.write });
  else if (read() !== data.known) setStateValue("kept", { text: read() });
  const told = (event) => { if (event.key === NAME) setStateValue("kept", { text: read() }); };
  window.addEventListener("storage", told);
  return () => window.removeEventListener("storage", told);
}
