"use strict";
// Asks how far the move is, once a second, until nothing more can become of it.
const url = document.currentScript.dataset.url;
const bar = document.getElementById("bar");
const text = document.getElementById("text");

async function look() {
  let wait = 1000;
  try {
    const answer = await fetch(url);
    if (!answer.ok) throw new Error(`${answer.status} ${answer.statusText}`);
    const seen = await answer.json();
    bar.value = seen.percent;
    text.textContent = seen.text;
    if (seen.over) return;
  } catch (error) {
    // This page lost its server; the migration goes on without either of them.
    text.textContent = `no news (${error.message}), trying again`;
    wait = 5000;
  }
  setTimeout(look, wait);
}
look();
