// What is asked for on the page: the same API that everybody else uses, and what it answers, said.

import { items } from './dom.js';

const said = document.getElementById('said');
const asked = new Map(); // migrations asked for here -> what to call them

function say(kind, text, more = {}) {
  const box = document.createElement('p');
  box.className = `message ${kind}`;
  if (kind === 'refused') box.setAttribute('role', 'alert');
  box.append(text);
  if (more.code) box.append(' ', Object.assign(document.createElement('code'), { textContent: more.code }));
  if (more.next) box.append(' ', Object.assign(document.createElement('span'), { className: 'hint', textContent: more.next }));
  if (more.href) box.append(' ', Object.assign(document.createElement('a'), { href: more.href, textContent: 'Time line' }));
  const close = Object.assign(document.createElement('button'), { type: 'button', className: 'plain', textContent: 'Dismiss' });
  close.addEventListener('click', () => box.remove());
  box.append(' ', close);
  said.append(box);
  while (said.children.length > 3) said.firstElementChild.remove();
}

function newKey() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return [...bytes].map((byte) => byte.toString(16).padStart(2, '0')).join('');
}

// Returns the answer, or null after having said why there is none.
async function post(path, body = {}, key = newKey()) {
  let answer;
  try {
    answer = await fetch(path, {
      method: 'POST',
      headers: { 'Content-Type': 'application/json', 'Idempotency-Key': key, Accept: 'application/json' },
      body: JSON.stringify(body),
      credentials: 'same-origin',
    });
  } catch {
    say('refused', 'The server did not answer; nothing is known of the request. Ask again: it is not done twice.');
    return null;
  }
  let told = {};
  try { told = await answer.json(); } catch { /* no body */ }
  if (answer.ok) return told;
  if (answer.status === 401) location.reload();
  say('refused', told.detail || `Refused (${answer.status}).`, told);
  return null;
}

const path = (...parts) => `/v1/${parts.map(encodeURIComponent).join('/')}`;
const name = (item) => item.domain || 'the guest';

async function busy(button, work) {
  button.setAttribute('aria-disabled', 'true');
  if (button.dataset.busy) return;
  button.dataset.busy = 'yes';
  try { await work(); } finally { delete button.dataset.busy; button.removeAttribute('aria-disabled'); }
}

// Ask in a dialog; the reason, or null where it is to stay as it is.
function sure({ title, text, yes, reason, grave }) {
  const dialog = document.getElementById('sure');
  const form = dialog.querySelector('form');
  form.reset();
  document.getElementById('sure-title').textContent = title;
  document.getElementById('sure-text').textContent = text;
  document.getElementById('sure-yes').textContent = yes;
  document.getElementById('sure-reason').hidden = !reason;
  dialog.returnValue = '';
  dialog.showModal();
  // Whoever leans on Enter has asked for nothing that moves guests.
  (grave ? document.getElementById('sure-no') : form.elements.reason).focus();
  return new Promise((resolve) => {
    dialog.addEventListener('close', () => {
      resolve(dialog.returnValue === 'yes' ? form.elements.reason.value : null);
    }, { once: true });
  });
}

const deeds = {
  async cancel(item) {
    const told = await post(path('migrations', item.id, 'cancel'));
    if (told) say('done', `${name(item)}: ${told.answer === 'cancelled' ? 'cancelled' : 'cancel asked for'}; it stays on ${item.source}.`, { href: item.href });
    if (told) asked.set(item.id, name(item));
  },
  async retry(item) {
    const told = await post(path('migrations', item.id, 'retry'));
    if (!told) return;
    const ident = told.migration || told.id;
    asked.set(ident, name(item));
    say('done', `${name(item)} was asked for again.`, { href: ident ? `/m/${encodeURIComponent(ident)}` : undefined });
  },
  async cordon(item) {
    const reason = await sure({ title: `Cordon ${item.name}`, text: 'Nothing new is sent there, and what waits towards it ends. What runs already goes on, and its guests stay.', yes: 'Cordon', reason: true });
    if (reason === null) return;
    const told = await post(path('hosts', item.name, 'cordon'), { reason });
    if (told) say('done', `${item.name} is cordoned.`);
  },
  async uncordon(item) {
    const told = await post(path('hosts', item.name, 'uncordon'));
    if (told) say('done', `${item.name} takes guests again.`);
  },
  async drain(item) {
    const reason = await sure({ title: `Drain ${item.name}?`, text: `It is cordoned, and everything on it (${item.number}) is moved to other hosts. None is stopped; what cannot move stays, with the reason. The batch can be paused and cancelled.`, yes: `Drain ${item.name}`, reason: true, grave: true });
    if (reason === null) return;
    const told = await post(path('hosts', item.name, 'drain'), { reason });
    if (told) say('done', `${item.name} is being drained, as batch ${told.id || told.batch}.`);
  },
  pause: (item) => control(item, { action: 'pause' }, 'is paused: what runs of it ends, nothing new begins'),
  resume: (item) => control(item, { action: 'resume' }, 'goes on'),
  async stop(item) {
    const go = await sure({ title: `Cancel ${item.what}?`, text: 'What runs of it ends as it does; nothing else of it begins.', yes: 'Cancel the batch', reason: false, grave: true });
    if (go !== null) await control(item, { action: 'cancel' }, 'is being cancelled');
  },
  async copy(_item, button) {
    await navigator.clipboard.writeText(button.closest('.todo').querySelector('code').textContent);
    say('done', 'Copied.');
  },
};

async function control(item, body, done) {
  if (await post(path('batches', item.id, 'control'), body)) say('done', `${item.what} ${done}.`);
}

document.addEventListener('click', (event) => {
  const button = event.target.closest('button[data-do]');
  const item = items.get(event.target.closest('[data-item]')?.dataset.item);
  if (button && item) busy(button, () => deeds[button.dataset.do](item, button));
  else if (event.target.closest('.guests a:not([href])') && item) choose(item.name);
});

// -- the form ----------------------------------------------------------------------------------------------

const form = document.getElementById('migrate');

function choose(domain) {
  if (!form) return;
  form.elements.domain.value = domain;
  form.elements.destination.focus();
}

function request(fields) {
  const body = { domain: fields.get('domain').trim(), destination: fields.get('destination') };
  const options = Object.fromEntries(fields.getAll('option').map((option) => [option, true]));
  if (Object.keys(options).length) body.options = options;
  if (fields.get('priority') !== 'normal') body.priority = fields.get('priority');
  if (fields.get('deadline_seconds')) body.deadline_seconds = Number(fields.get('deadline_seconds'));
  if (fields.get('reason')) body.reason = fields.get('reason');
  return body;
}

if (form) {
  let key = newKey(); // one for each filling of the form: a double click makes one migration
  form.addEventListener('input', () => { key = newKey(); });
  form.addEventListener('submit', (event) => {
    event.preventDefault();
    busy(form.querySelector('button.main'), async () => {
      const body = request(new FormData(form));
      const told = await post(path('migrations'), body, key);
      if (!told) return;
      asked.set(told.id, body.domain);
      say('done', `${body.domain} to ${body.destination}: asked for.`, { href: `/m/${encodeURIComponent(told.id)}` });
      form.reset();
      key = newKey();
      form.elements.domain.focus();
    });
  });
  form.elements.domain.addEventListener('focus', () => {
    const names = new Set();
    for (const [ident, item] of items) if (ident.startsWith('g/')) names.add(item.name);
    const options = [...names].sort().map((text) => Object.assign(document.createElement('option'), { value: text }));
    document.getElementById('guests').replaceChildren(...options);
  });
}

// Say what became of what was asked for here.
export function tellOutcomes() {
  for (const [ident, title] of asked) {
    const over = items.get(`r/${ident}`);
    const doubt = items.get(`d/${ident}`);
    if (over) say(over.outcome === 'succeeded' ? 'done' : 'ended', `${title}: ${over.outcome}${over.outcome === 'succeeded' ? `, it is on ${over.destination}` : ''}.`, over);
    if (doubt) say('refused', `${title} is in doubt.`, doubt);
    if (over || doubt) asked.delete(ident);
  }
}
