/** What the agents are about to do and whom they heed, beside the scene: bars and a table. */

import { make } from "./strips.mjs";

const MANY = 12;  // agents from which on only the chosen one's are shown

/** Bars of every agent's action probabilities, with the names of the actions. */
export class Bars {
  constructor(parent, agents, actions, choose) {
    Object.assign(this, { agents, actions });
    make("h3", { textContent: "What each agent is about to do (probabilities in %)" }, parent);
    this.root = make("div", { className: "bars" }, parent);
    this.rows = agents.map((name, agent) => {
      const row = make("div", { className: "bar-row" }, this.root);
      const label = make("button", { textContent: agent, title: name }, row);
      label.addEventListener("click", () => choose(agent));
      const cells = actions[agent].map((word, action) => {
        const cell = make("span", { className: "bar" }, row);
        const fill = make("i", {}, cell);
        fill.style.background = `var(--action-${action % 8})`;
        make("span", { textContent: word }, cell);
        return { cell, fill, number: make("b", {}, cell) };
      });
      return { row, label, cells };
    });
  }

  /** @param colours number of each agent's colour, see `agentColours` */
  show({ probability, action }, chosen, colours) {
    this.rows.forEach(({ row, label, cells }, agent) => {
      row.hidden = this.rows.length > MANY && agent !== chosen;
      label.style.setProperty("--colour", `var(--own-${colours[agent] % 8})`);
      label.setAttribute("aria-pressed", agent === chosen);
      cells.forEach(({ cell, fill, number }, k) => {
        const share = probability[agent][k];
        fill.style.transform = `scaleX(${share.toFixed(3)})`;
        number.textContent = Math.round(100 * share);
        cell.classList.toggle("taken", action[agent] === k);
      });
    });
  }
}

/** A table of weights of pairs: row i is what agent i gives to each other agent. */
export class Pairs {
  constructor(parent, agents) {
    this.count = agents.length;
    this.root = make("table", { className: "pairs" }, parent);
    this.title = make("caption", {}, this.root);
    const head = make("tr", {}, this.root);
    make("th", {}, head);
    agents.forEach((_, to) => make("th", { textContent: to, scope: "col" }, head));
    this.cells = agents.map((_, from) => {
      const row = make("tr", {}, this.root);
      make("th", { textContent: from, scope: "row" }, row);
      return agents.map(() => make("td", {}, row));
    });
  }

  /** @param weights [n, n] flat, or null for none */
  show(weights, title) {
    this.root.hidden = !weights || this.count > MANY;
    if (this.root.hidden) return;
    this.title.textContent = title;
    this.cells.forEach((row, from) =>
      row.forEach((cell, to) => {
        const weight = weights[from * this.count + to];
        cell.textContent = from === to ? "" : weight.toFixed(2);
        cell.style.setProperty("--weight", `${Math.round(100 * weight)}%`);
      }),
    );
  }
}
