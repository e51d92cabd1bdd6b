// The stream of differences: opened again whenever it ends, and said to be old when nothing comes.

const SILENT_SECONDS = 7; // the server says something every three
const LONGEST_WAIT = 10000;

export function follow(url, { view, change, state }) {
  let source = null;
  let wait = 500;
  let heard = performance.now();
  let readAge = 0; // how old what the server tells is by itself: it may not reach Redis

  const hear = (event, then) => {
    const told = JSON.parse(event.data);
    heard = performance.now();
    wait = 500;
    readAge = told.age || 0;
    if (then) then(told);
    report();
  };

  function open() {
    source = new EventSource(url);
    source.addEventListener('view', (event) => hear(event, view));
    source.addEventListener('change', (event) => hear(event, change));
    source.addEventListener('beat', (event) => hear(event));
    source.onerror = () => {
      report();
      if (source.readyState !== EventSource.CLOSED) return; // the browser tries again by itself
      setTimeout(retry, wait);
      wait = Math.min(wait * 2, LONGEST_WAIT);
    };
  }

  async function retry() {
    try { // a session that has ended is told by the page itself
      const answer = await fetch(location.href, { method: 'HEAD', redirect: 'manual', cache: 'no-store' });
      if (answer.type === 'opaqueredirect' || answer.status === 401 || answer.status === 404) return location.reload();
    } catch { /* the server is away: so is its stream */ }
    open();
  }

  function report() {
    const age = (performance.now() - heard) / 1000 + readAge;
    const lost = source.readyState !== EventSource.OPEN && age > 1;
    state(lost || age > SILENT_SECONDS, age);
  }

  setInterval(report, 1000);
  open();
}
