/**
 * Policies, the attention critic and coordination, as mamt_jax/networks and algorithms have them.
 *
 * What is computed for one step of n agents: networks/policies.py (Actor), networks/critic.py
 * (AttentionCritic, with a value for every own action) and algorithms/coordination.py. Sums are kept
 * in double precision, so that differences to Python are Python's own rounding.
 */

const NORM_EPS = 1e-5;
const LEAK = 0.01;

// ---- Weights ---------------------------------------------------------------------------------

/** The number of which these are the 16 bits of a half. */
export function halfToNumber(bits) {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 10) & 0x1f;
  const fraction = bits & 0x3ff;
  if (exponent === 0) return sign * fraction * 2 ** -24;
  if (exponent === 31) return fraction ? NaN : sign * Infinity;
  return sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
}

/** Numbers of an array's bytes, plane k of which holds the k-th byte of every number. */
function readNumbers(dtype, bytes) {
  const width = dtype === "float16" ? 2 : 4;
  const count = bytes.length / width;
  const whole = new Uint8Array(bytes.length);
  for (let k = 0; k < width; k++) {
    for (let i = 0; i < count; i++) whole[width * i + k] = bytes[count * k + i];
  }
  if (width === 4) return new Float32Array(whole.buffer);
  return Float32Array.from(new Uint16Array(whole.buffer), halfToNumber);
}

/** A kernel [..., I, H] as [..., H, I]: outputs are then dot products of what lies together. */
function turned(values, shape) {
  const [inputs, outputs] = shape.slice(-2);
  const result = new Float32Array(values.length);
  for (let start = 0; start < values.length; start += inputs * outputs) {
    for (let i = 0; i < inputs; i++) {
      for (let o = 0; o < outputs; o++) {
        result[start + o * inputs + i] = values[start + i * outputs + o];
      }
    }
  }
  return { values: result, inputs, outputs };
}

/** Networks of the index and the bytes that weights.py makes. */
export function loadNetworks(index, bytes) {
  const arrays = {};
  let start = 0;
  for (const [name, shape, dtype] of index.arrays) {
    const width = dtype === "float16" ? 2 : 4;
    const end = start + shape.reduce((product, length) => product * length, width);
    arrays[name] = { values: readNumbers(dtype, bytes.subarray(start, end)), shape };
    start = end;
  }
  const layer = (name) => {
    const kernel = arrays[`${name}/kernel`];
    const [outputs, inputs] = kernel.shape.slice(-2);
    const isTurned = name.endsWith("out");
    const laid = isTurned ? { ...kernel, inputs, outputs } : turned(kernel.values, kernel.shape);
    const stride = kernel.shape.length === 3 ? inputs * outputs : 0; // 0: shared by all agents
    return { ...laid, stride, bias: arrays[`${name}/bias`]?.values };
  };
  const norm = (name) => ({
    mean: arrays[`${name}/mean`].values,
    deviation: arrays[`${name}/var`].values.map((variance) => Math.sqrt(variance + NORM_EPS)),
  });
  const critic = {};
  for (const name of Object.keys(arrays)) {
    const [part, module, kind] = name.split("/");
    if (part === "critic" && kind === "kernel") critic[module] = layer(`critic/${module}`);
  }
  return {
    actionCounts: index.action_counts,
    agents: index.action_counts.length,
    actions: Math.max(...index.action_counts),
    heads: index.heads,
    coordination: index.coordination,
    obsNorm: norm("norm"),
    actionNorm: norm("action_norm"),
    actor: ["AgentDense_0", "AgentDense_1", "out"].map((name) => layer(`actor/${name}`)),
    critic,
  };
}

// ---- Layers ----------------------------------------------------------------------------------

/** Adds what a layer of agent i makes of each row [I] to the sum [H] beside it. */
function addLinear(layer, agent, rows, sums) {
  const start = agent * layer.stride, fours = layer.outputs % 2 ? 0 : rows.length - (rows.length % 4);
  for (let k = 0; k < fours; k += 4) addFour(layer, start, rows.slice(k, k + 4), sums.slice(k, k + 4));
  for (let k = fours; k < rows.length; k++) addOne(layer, start, rows[k], sums[k]);
  return sums;
}

/** Four rows and two outputs at a time: what is read once is used often, which is 4 times as fast. */
function addFour({ values, inputs, outputs }, start, [w, x, y, z], [ofW, ofX, ofY, ofZ]) {
  for (let o = 0, at = start; o < outputs; o += 2, at += inputs) {
    let [w0, x0, y0, z0, w1, x1, y1, z1] = [0, 0, 0, 0, 0, 0, 0, 0];
    for (let i = 0; i < inputs; i++, at++) {
      const first = values[at], second = values[at + inputs];
      const wi = w[i], xi = x[i], yi = y[i], zi = z[i];
      w0 += first * wi;
      x0 += first * xi;
      y0 += first * yi;
      z0 += first * zi;
      w1 += second * wi;
      x1 += second * xi;
      y1 += second * yi;
      z1 += second * zi;
    }
    ofW[o] += w0;
    ofX[o] += x0;
    ofY[o] += y0;
    ofZ[o] += z0;
    ofW[o + 1] += w1;
    ofX[o + 1] += x1;
    ofY[o + 1] += y1;
    ofZ[o + 1] += z1;
  }
}

function addOne({ values, inputs, outputs }, start, x, sums) {
  const whole = inputs - (inputs % 4);
  for (let o = 0, at = start; o < outputs; o++, at += inputs) {
    let [a, b, c, d] = [0, 0, 0, 0];
    for (let i = 0; i < whole; i += 4) {
      a += values[at + i] * x[i];
      b += values[at + i + 1] * x[i + 1];
      c += values[at + i + 2] * x[i + 2];
      d += values[at + i + 3] * x[i + 3];
    }
    for (let i = whole; i < inputs; i++) a += values[at + i] * x[i];
    sums[o] += a + b + (c + d);
  }
}

/** What a layer of agent i makes of each row: [I] -> [H]. */
function linear(layer, agent, rows) {
  const { bias, stride, outputs } = layer, start = stride ? agent * outputs : 0;
  const sums = rows.map(() => new Float64Array(outputs));
  if (bias) for (const sum of sums) sum.set(bias.subarray(start, start + outputs));
  return addLinear(layer, agent, rows, sums);
}

/** The same of one row. */
const linearOne = (layer, agent, x) => linear(layer, agent, [x])[0];

function leaky(x) {
  for (let i = 0; i < x.length; i++) if (x[i] < 0) x[i] *= LEAK;
  return x;
}

/** Row `agent` in standard deviations from its mean. */
function normalisedRow(norm, agent, row) {
  const start = agent * row.length;
  return Float64Array.from(row, (x, i) => (x - norm.mean[start + i]) / norm.deviation[start + i]);
}

function logSoftmax(scores) {
  const top = Math.max(...scores);
  const total = top + Math.log(scores.reduce((sum, score) => sum + Math.exp(score - top), 0));
  return scores.map((score) => score - total);
}

const softmax = (scores) => logSoftmax(scores).map(Math.exp);

const countTo = (count) => Array.from({ length: count }, (_, i) => i);

// ---- Policies --------------------------------------------------------------------------------

/** π_i(u | o_i) [n][A] of observations [n][O]; 0 for actions that an agent does not have. */
export function actionProbabilities(networks, obs) {
  const [first, second, out] = networks.actor;
  return obs.map((row, i) => {
    const x = normalisedRow(networks.obsNorm, i, row);
    const hidden = leaky(linearOne(second, i, leaky(linearOne(first, i, x))));
    const logits = Array.from(linearOne(out, i, hidden)).slice(0, networks.actionCounts[i]);
    const none = new Array(networks.actions - logits.length).fill(0);
    return [...softmax(logits), ...none];
  });
}

/** The most probable actions [n]. */
export function greedyActions(probability) {
  return probability.map((row) => row.indexOf(Math.max(...row)));
}

/** Actions [n] drawn with their probabilities; random() is uniform in [0, 1). */
export function sampledActions(probability, random) {
  return probability.map((row) => {
    let left = random();
    const drawn = row.findIndex((share) => (left -= share) < 0);
    return drawn < 0 ? row.indexOf(Math.max(...row)) : drawn;
  });
}

// ---- Critic ----------------------------------------------------------------------------------

const oneHot = (index, size) => countTo(size).map((k) => Number(k === index));

/** Query·key of every head [K], divided by the square root of a head's width. */
function headScores(query, key, heads) {
  const width = query.length / heads;
  return countTo(heads).map((head) => {
    let sum = 0;
    for (let h = head * width; h < (head + 1) * width; h++) sum += query[h] * key[h];
    return sum / Math.sqrt(width);
  });
}

/** Keys and values of agents that do what is encoded: [{agent, encoded: [A]}] -> [{key, value}]. */
function keysAndValues(critic, obsParts, done) {
  const pairs = done.map(({ agent, encoded }) =>
    leaky(addLinear(critic.encode_action, agent, [encoded], [obsParts[agent].slice()])[0]),
  );
  const keys = linear(critic.key, 0, pairs), values = linear(critic.value, 0, pairs);
  return pairs.map((_, k) => ({ key: keys[k], value: leaky(values[k]) }));
}

/** Values [n][A] of all own actions beside the others' actions [n], and what leads to them. */
function criticTrace(networks, obs, actions) {
  const { critic, heads } = networks, agents = countTo(networks.agents);
  const encode = (agent, action) => {
    const encoded = normalisedRow(networks.actionNorm, agent, oneHot(action, networks.actions));
    return { agent, encoded };
  };
  const xs = obs.map((row, i) => normalisedRow(networks.obsNorm, i, row));
  const states = xs.map((x, i) => leaky(linearOne(critic.encode_state, i, x)));
  const obsParts = xs.map((x, i) => linearOne(critic.encode_obs, i, x));
  const queries = linear(critic.query, 0, states);
  const others = keysAndValues(critic, obsParts, agents.map((i) => encode(i, actions[i])));
  const each = agents.map((i) => ({
    query: queries[i],
    statePart: linearOne(critic.head_state, i, states[i]),
    ...others[i],
  }));
  const scores = each.map(({ query }, i) =>
    each.map(({ key }, j) => (i === j ? null : headScores(query, key, heads))),
  );
  const attention = scores.map((row, i) => attentionOver(row, i, heads));
  const q = each.map(({ statePart }, i) => {
    const attended = weightedValues(each, attention[i], agents);
    const [hidden] = addLinear(critic.head_attended, i, [attended], [statePart.slice()]);
    return Array.from(linearOne(critic.head_out, i, leaky(hidden)));
  });
  return { each, obsParts, scores, attention, q, encode };
}

/** Weights [n][K] of agent i on the others, by their scores; zeros on itself. */
function attentionOver(scores, agent, heads) {
  const others = countTo(scores.length).filter((j) => j !== agent);
  const weights = scores.map(() => new Array(heads).fill(0));
  for (let head = 0; head < heads; head++) {
    const shares = softmax(others.map((j) => scores[j][head]));
    others.forEach((j, k) => (weights[j][head] = shares[k]));
  }
  return weights;
}

/** Σ_j w_j v_j over some agents, each head with its own weights [n][K]: [H]. */
function weightedValues(each, weights, agents) {
  const size = each[0].value.length;
  const sum = new Float64Array(size);
  for (const j of agents) {
    const { value } = each[j];
    const width = size / weights[j].length;
    weights[j].forEach((weight, head) => {
      if (weight === 0) return;
      for (let h = head * width; h < (head + 1) * width; h++) sum[h] += weight * value[h];
    });
  }
  return sum;
}

/** |Q_i(a\j) − Q_i(a)| [n][n], j's action averaged out under its policy (Eq. 5); exact. */
function counterfactualEffect(networks, trace, actions, probability) {
  const { critic } = networks, agents = countTo(networks.agents), doable = countTo(networks.actions);
  const { each, q, encode } = trace;
  const done = agents.flatMap((j) => doable.map((u) => encode(j, u)));
  const found = keysAndValues(critic, trace.obsParts, done);
  return agents.map((i) => {
    const others = agents.filter((j) => j !== i), { statePart } = each[i];
    const attended = others.flatMap((j) => {
      const first = j * doable.length;
      return attendedInstead(networks, trace, i, j, found.slice(first, first + doable.length));
    });
    const hidden = addLinear(critic.head_attended, i, attended, attended.map(() => statePart.slice()));
    const effects = others.map((j, k) => {
      const mean = new Float64Array(statePart.length);
      for (const u of doable) {
        const row = leaky(hidden[k * doable.length + u]);
        for (let h = 0; h < mean.length; h++) mean[h] += probability[j][u] * row[h];
      }
      return Math.abs(linearOne(critic.head_out, i, mean)[actions[i]] - q[i][actions[i]]);
    });
    effects.splice(i, 0, 0);
    return effects;
  });
}

/** What agent i attends to [H] if j had each of these keys and values in the place of its own. */
function attendedInstead({ heads }, { each, scores }, i, j, replaced) {
  const remaining = countTo(each.length).filter((k) => k !== i && k !== j);
  const total = countTo(heads).map((head) => logSumExp(remaining.map((k) => scores[i][k][head])));
  const weights = scores[i].map((row) => row?.map((score, head) => Math.exp(score - total[head])));
  const kept = weightedValues(each, weights, remaining), width = kept.length / heads;
  return replaced.map(({ key, value }) => {
    const attended = kept.slice();
    headScores(each[i].query, key, heads).forEach((score, head) => {
      const share = 1 / (1 + Math.exp(total[head] - score));
      for (let h = head * width; h < (head + 1) * width; h++) attended[h] += share * (value[h] - kept[h]);
    });
    return attended;
  });
}

function logSumExp(scores) {
  const top = Math.max(...scores);
  return top + Math.log(scores.reduce((sum, score) => sum + Math.exp(score - top), 0));
}

// ---- Coordination ----------------------------------------------------------------------------

/** C_ij [n][n] of scores by the rule in the weights' index; see algorithms/coordination.py. */
function coefficients(networks, trace, actions, probability) {
  const { kind, threshold, unit } = networks.coordination;
  const agents = countTo(networks.agents);
  let scores = agents.map(() => agents.map(() => 0)); // of two agents, or where all are equal
  if (kind !== "equal" && agents.length > 2) {
    const released = kind === "released";
    scores = released
      ? releasedScores(trace, actions, probability)
      : counterfactualEffect(networks, trace, actions, probability);
    scores = scores.map((row) => row.map((score) => score / unit));
  }
  const at = kind === "released" ? (i, j) => scores[j][i] : (i, j) => scores[i][j];
  const rows = agents.map((i) => {
    const shares = softmax(agents.filter((j) => j !== i).map((j) => at(i, j)));
    shares.splice(i, 0, 0);
    return shares.map((share) => (share >= threshold ? share : 0));
  });
  return kind === "released" ? agents.map((i) => agents.map((j) => rows[j][i])) : rows;
}

/** |Q_i(a) − V_j(o, a_{-j})| [n][n], as the released code scores. */
function releasedScores({ q }, actions, probability) {
  const values = q.map((row, j) => row.reduce((sum, one, u) => sum + probability[j][u] * one, 0));
  return q.map((row, i) => values.map((value) => Math.abs(row[actions[i]] - value)));
}

/** What Python's `inspect` says of one step: q, value, advantage, attention, coordination. */
export function inspectStep(networks, obs, actions, probability) {
  const trace = criticTrace(networks, obs, actions);
  const value = trace.q.map((row, i) => row.reduce((sum, q, u) => sum + probability[i][u] * q, 0));
  const said = {
    q: trace.q.map((row, i) => row.map((q, u) => (u < networks.actionCounts[i] ? q : NaN))),
    value,
    advantage: trace.q.map((row, i) => row[actions[i]] - value[i]),
    attention: trace.attention,
  };
  if (!networks.coordination) return said;
  return { ...said, coordination: coefficients(networks, trace, actions, probability) };
}
