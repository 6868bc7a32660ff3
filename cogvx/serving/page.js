"use strict";
// What every page for raters does: it asks its server, tells what went wrong, and takes keys.
const token = new URLSearchParams(location.search).get("token") || "";
const at = id => document.getElementById(id);
let busy = false;

async function ask(path, body) {
  const options = { headers: { "X-Cogvx-Token": token, "Accept": "application/json" }, cache: "no-store" };
  if (body !== undefined) {
    options.method = "POST";
    options.headers["Content-Type"] = "application/json";
    options.body = JSON.stringify(body);
  }
  let reply;
  try { reply = await fetch(path, options); }
  catch { throw new Error("cogvx does not answer. Start it again with the same command, then press Enter."); }
  const value = await reply.json();
  if (!reply.ok) throw new Error(value.error);
  return value;
}

function clipAddress(path) { return `clip/${path}${path.includes("?") ? "&" : "?"}token=${encodeURIComponent(token)}`; }
function notice(text) { at("notice").textContent = text; at("notice").hidden = !text; }
function showProgress(done, count) {
  at("bar").max = count; at("bar").value = done;
  at("count").textContent = `${done} of ${count}`;
}

async function run(work) {
  if (busy) return;
  busy = true;
  try { await work(); } catch (error) { notice(error.message); } finally { busy = false; }
}

// actionOf(key, event) is what a pressed key does; undefined: it is left to the browser.
function takeKeys(actionOf) {
  document.addEventListener("keydown", event => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const action = actionOf(event.key.length === 1 ? event.key.toLowerCase() : event.key, event);
    if (!action || (event.repeat && event.key !== "ArrowLeft")) return;
    event.preventDefault();  // a focused button or the player would take the key too
    action();
  }, true);
}
