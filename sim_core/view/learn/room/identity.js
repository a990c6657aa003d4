// Who a visitor is in a room: {code, who, host}. The tab remembers it over a reload, so that nobody counts twice; the
// browser remembers the host's key over closed tabs. Where Python does not know yet (no `who`), it is told: {who, host};
// somebody new is "new", and Python gives them a token, which only the room can make.

/** Return what a store has, "" where the browser keeps nothing. */
function read(open, name) {
  try { return open().getItem(name) ?? ""; } catch { return ""; }
}

function write(open, name, value) {
  try { open().setItem(name, value); } catch { /* this browser keeps nothing */ }
}

export default function ({ data, setStateValue }) {
  const name = "batchscope-room-" + data.code, tab = () => sessionStorage, browser = () => localStorage;
  if (data.who) {
    write(tab, name, data.who);
    if (data.host) write(browser, name, data.host);
    return;
  }
  setStateValue("kept", { who: read(tab, name) || "new", host: read(browser, name) });
}
