// A live page: what the server has rendered, kept up to date.

import { follow } from './live.js';
import { index, items, replace, serverNow, setClock, take, tickAll } from './dom.js';
import { tellOutcomes } from './ask.js';

const meta = (name) => document.querySelector(`meta[name="${name}"]`)?.content;
const stale = document.getElementById('stale');
const staleAge = document.getElementById('stale-age');
const clock = document.querySelector('[data-clock]');
const link = document.getElementById('link');
const find = document.getElementById('find');

for (const el of document.querySelectorAll('.needs-js')) el.hidden = false;
index(document.body);

// -- find ----------------------------------------------------------------------------------------------------

const FIELDS = ['domain', 'name', 'source', 'destination', 'id', 'batch'];

function matches(key, wanted) {
  const item = items.get(key);
  return !item || FIELDS.some((field) => String(item[field] ?? '').toLowerCase().includes(wanted));
}

function sieve(elements) {
  const wanted = find ? find.value.trim().toLowerCase() : '';
  for (const el of elements) {
    const missed = Boolean(wanted) && !matches(el.dataset.item, wanted)
      && ![...el.querySelectorAll('[data-item]')].some((inner) => matches(inner.dataset.item, wanted));
    el.classList.toggle('missed', missed);
  }
}

const found = () => document.querySelectorAll('ul [data-item], tbody [data-item]');
if (find) {
  find.addEventListener('input', () => sieve(found()));
  document.addEventListener('keydown', (event) => {
    if (event.key === '/' && !event.target.closest('input, select, textarea, dialog')) { event.preventDefault(); find.focus(); }
    if (event.key === 'Escape' && event.target === find) { find.value = ''; sieve(found()); }
  });
}

// -- live ----------------------------------------------------------------------------------------------------

function taken(told, fresh) {
  if (find && find.value) sieve(fresh);
  tellOutcomes();
  const page = items.get('page');
  if (page) document.title = page.doubt ? `${page.doubt} in doubt · vmrelay` : page.moving ? `${page.moving} moving · vmrelay` : 'vmrelay';
}

follow(meta('live'), {
  view(told) {
    if (told.build !== meta('build')) return location.reload(); // the server is another version
    setClock(told.now);
    taken(told, replace(told));
    document.documentElement.dataset.live = 'yes';
  },
  change(told) { setClock(told.now); taken(told, take(told)); },
  state(old, age) {
    link.dataset.state = old ? 'lost' : 'live';
    stale.hidden = !old;
    if (old) staleAge.textContent = `${Math.round(age)} s`;
    else clock.textContent = new Date(serverNow() * 1000).toLocaleTimeString('en-GB');
  },
});
setInterval(tickAll, 1000);
