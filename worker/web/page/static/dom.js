// Fills marked-up elements from items: data-text="field", data-show="field", data-age="field" and
// data-set="attribute:field …"; data-item="key" is whose fields, data-list="name" holds items, data-make the template
// of a new one. Text is only ever set as text: what comes from guests and people is never read as markup.

export const items = new Map(); // key -> fields
const lists = new Map(); // name -> keys
const places = new Map(); // key -> [{root, marks}]
const containers = new Map(); // name -> element

export function ago(seconds) {
  const s = Math.max(0, Math.floor(seconds));
  if (s < 120) return `${s} s`;
  const minutes = Math.floor(s / 60);
  if (minutes < 120) return `${minutes} min`;
  const hours = Math.floor(minutes / 60);
  return hours < 48 ? `${hours} h ${minutes % 60} min` : `${Math.floor(hours / 24)} days`;
}

let skew = 0; // seconds that the server's clock is ahead of ours
export const setClock = (now) => { skew = now - Date.now() / 1000; };
export const serverNow = () => Date.now() / 1000 + skew;

function marksOf(root) {
  const marks = [];
  const walk = (el) => {
    const { text, show, age, set, list } = el.dataset;
    if (text) marks.push({ el, kind: 'text', field: text });
    if (show) marks.push({ el, kind: 'show', field: show });
    if (age) marks.push({ el, kind: 'age', field: age });
    for (const pair of set ? set.split(' ') : []) {
      const [name, field] = pair.split(':');
      marks.push({ el, kind: 'set', name, field });
    }
    if (list) containers.set(list, el);
    for (const child of el.children) {
      if (!child.dataset.item && child.localName !== 'template') walk(child);
    }
  };
  walk(root);
  return marks;
}

function fill(mark, fields) {
  const { el, kind, field, name } = mark;
  const value = fields[field];
  if (kind === 'text') {
    const text = value === undefined ? '' : String(value);
    if (el.textContent !== text) el.textContent = text;
  } else if (kind === 'show') {
    el.toggleAttribute('hidden', !value);
  } else if (kind === 'age') {
    if (value === undefined) { delete el.dataset.since; el.textContent = ''; } else { el.dataset.since = value; tick(el); }
  } else {
    if (value === undefined || (name === 'href' && !String(value).startsWith('/'))) el.removeAttribute(name);
    else el.setAttribute(name, value);
    if (name === 'data-list' && value) containers.set(value, el);
  }
}

function tick(el) {
  const text = ago(serverNow() - Number(el.dataset.since));
  if (el.textContent !== text) el.textContent = text;
}

export function tickAll() {
  for (const el of document.querySelectorAll('time[data-since]')) tick(el);
}

// Take in what the server has rendered: elements by key. Fields come with the first view.
export function index(root) {
  for (const el of root.querySelectorAll('[data-list]')) containers.set(el.dataset.list, el);
  for (const el of root.querySelectorAll('[data-item]')) settle(el, el.dataset.item);
}

function settle(root, key) {
  const place = { root, marks: marksOf(root) };
  places.has(key) ? places.get(key).push(place) : places.set(key, [place]);
  return place;
}

function made(container, key) {
  const template = document.getElementById(container.dataset.make);
  const root = template.content.querySelector('[data-item]').cloneNode(true);
  root.dataset.item = key;
  for (const el of root.querySelectorAll('.needs-js')) el.hidden = false;
  const place = settle(root, key);
  for (const mark of place.marks) fill(mark, items.get(key) || {});
  born.push(root);
  return root;
}

let born = []; // what was made by the change that is taken in

function arrange(container, keys) {
  const wanted = new Set(keys);
  const here = new Map();
  for (const el of [...container.children]) {
    const key = el.dataset.item;
    if (!key) continue;
    if (wanted.has(key)) here.set(key, el);
    else dismiss(container, el, key);
  }
  let next = container.firstElementChild;
  for (const key of keys) {
    const el = here.get(key) || made(container, key);
    if (el === next) next = next.nextElementSibling;
    else container.insertBefore(el, next);
  }
}

function dismiss(container, el, key) {
  // Whoever stands on it with the keyboard goes on from the heading, and not from the top of the page.
  if (el.contains(document.activeElement)) container.closest('section')?.querySelector('h2')?.focus();
  const left = (places.get(key) || []).filter((place) => place.root !== el);
  left.length ? places.set(key, left) : places.delete(key);
  for (const inner of el.querySelectorAll('[data-item]')) places.delete(inner.dataset.item);
  el.remove();
}

// Take in a difference; returns the elements that are new. What the server has rendered may be older than the first
// view, and only the browser's own items tell what is to go: then every mark is filled.
export function take(change, whole = false) {
  born = [];
  const told = change.items || {};
  for (const [key, fields] of Object.entries(told)) {
    const merged = { ...items.get(key), ...fields };
    for (const name of Object.keys(merged)) if (merged[name] === null) delete merged[name];
    items.set(key, merged);
    for (const { marks } of places.get(key) || []) {
      for (const mark of marks) if (whole || mark.field in fields) fill(mark, merged);
    }
  }
  // A list in another one's items ("guests/alpha") comes after it.
  const names = Object.keys(change.lists || {}).sort((a, b) => a.includes('/') - b.includes('/'));
  for (const name of names) {
    const keys = change.lists[name];
    keys.length ? lists.set(name, keys) : lists.delete(name);
    const container = containers.get(name);
    if (container) arrange(container, keys);
  }
  for (const key of change.gone || []) { items.delete(key); places.delete(key); }
  return born;
}

// Take in a whole view, as the difference to what is here.
export function replace(view) {
  const change = { items: {}, lists: { ...view.lists }, gone: [] };
  for (const [key, fields] of Object.entries(view.items)) {
    const old = items.get(key) || {};
    const changed = { ...fields };
    for (const name of Object.keys(old)) if (!(name in fields)) changed[name] = null;
    change.items[key] = changed;
  }
  for (const key of items.keys()) if (!(key in view.items)) change.gone.push(key);
  for (const name of new Set([...lists.keys(), ...containers.keys()])) if (!(name in view.lists)) change.lists[name] = [];
  return take(change, true);
}
