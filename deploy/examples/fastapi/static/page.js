"use strict";
const [form, bar, text, rows] = ["form", "bar", "text", "moves"].map((id) => document.getElementById(id));
// One key for each form that is filled in: what a double click sends is the same request, and one migration.
let key = crypto.randomUUID();

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  const wanted = { key, ...Object.fromEntries(new FormData(form)) };
  try {
    const answer = await fetch("/moves", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify(wanted),
    });
    const told = await answer.json();
    if (!answer.ok) throw new Error(typeof told.detail === "string" ? told.detail : "name a guest and a host");
    key = crypto.randomUUID();
    follow(told.id);
  } catch (error) {
    // The key stays: whether the request arrived or not, pressing the button again is safe.
    text.textContent = `not asked for: ${error.message}`;
  }
});

function follow(number) {
  bar.hidden = false;
  bar.value = 0;
  const stream = new EventSource(`/moves/${number}/events`);
  stream.onmessage = (event) => {
    const told = JSON.parse(event.data);
    text.textContent = told.text;
    if (told.percent != null) bar.value = told.percent;
    if (!told.over) return;
    stream.close(); // else the browser would connect again
    list();
  };
}

async function list() {
  const moves = await (await fetch("/moves")).json();
  rows.replaceChildren(
    ...moves.map((move) => {
      const row = document.createElement("tr");
      for (const cell of [move.guest, move.destination, move.who, move.asked, move.state, move.detail]) {
        row.insertCell().textContent = cell; // textContent, never innerHTML: names come from people
      }
      return row;
    }),
  );
}
list();
