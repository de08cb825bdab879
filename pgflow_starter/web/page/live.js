// News of the starter: a stream while there is one to be had, else asking every two seconds.

const POLL_EVERY = 2000;
const STREAM_AGAIN = 15000;
const SILENT_FOR = 40000; // two heartbeats and some

// `told` gets {status}, {ended} or {link: "live" | "polling" | "lost"}.
export function follow(told) {
  let stream = null;
  let pollTimer = 0;
  let streamTimer = 0;
  let heardAt = Date.now();
  let round = 0;
  let lost = false;
  let planned = false; // the stream has said that it ends now: another is opened, and nothing is lost

  function listen() {
    clearTimeout(streamTimer);
    stream?.close();
    stream = new EventSource("events");
    heardAt = Date.now();
    planned = false;
    stream.addEventListener("status", (event) => {
      planned = false;
      stopPolling();
      heard("live", { status: JSON.parse(event.data) });
    });
    stream.addEventListener("heartbeat", () => heard("live", {}));
    stream.addEventListener("ended", (event) => {
      heard("live", { ended: JSON.parse(event.data) });
      instead();
    });
    stream.addEventListener("again", () => (planned = true));
    stream.addEventListener("error", () => {
      // Once: by itself it asks again soon. When that fails too there is no stream to be had, or nobody.
      if (planned && stream.readyState === EventSource.CONNECTING) planned = false;
      else instead();
    });
  }

  function heard(link, news) {
    heardAt = Date.now();
    told({ link, ...news });
  }

  function instead() {
    stream?.close();
    stream = null;
    clearTimeout(streamTimer);
    streamTimer = setTimeout(listen, STREAM_AGAIN);
    if (!pollTimer) poll();
  }

  async function poll() {
    const mine = ++round;
    const answer = await ask("status");
    if (mine !== round) return;
    pollTimer = setTimeout(poll, POLL_EVERY);
    if (answer === null) {
      lost = true;
      told({ link: "lost" });
      return;
    }
    heard("polling", answer.error ? { ended: answer } : { status: answer });
    if (lost) listen(); // somebody is there again: who knows, with a stream too
    lost = false;
  }

  function stopPolling() {
    round += 1;
    clearTimeout(pollTimer);
    pollTimer = 0;
  }

  function pause() {
    stream?.close();
    stream = null;
    clearTimeout(streamTimer);
    stopPolling();
  }

  setInterval(() => {
    if (stream !== null && Date.now() - heardAt > SILENT_FOR) instead();
  }, 1000);
  // A page that nobody sees gives its place away.
  document.addEventListener("visibilitychange", () => (document.hidden ? pause() : listen()));
  addEventListener("pagehide", pause);
  addEventListener("pageshow", (event) => event.persisted && listen());
  listen();
}

// The JSON at a path, of an error too; null when nobody answers.
export async function ask(path) {
  try {
    const answer = await fetch(path, { cache: "no-store", signal: AbortSignal.timeout(8000) });
    return await answer.json();
  } catch {
    return null;
  }
}
