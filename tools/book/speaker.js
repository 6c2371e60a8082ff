// The course's nano VLM in plain JavaScript, so that its playground answers on a page without a kernel.
//
// The same steps as vlmcourse/models/vit.py, projector.py and language.py and diagnostics/alternatives.py take: patches, a ViT,
// a projector, a LLaMA with cached keys and values, and the likeliest answers by beam search. It uses nothing outside itself,
// because it runs in a worker that is made from its text.
"use strict";

// Makes { answer(pixels, question), caption(pixels) } from what tools/book/speaking.py wrote.
function bookSpeaker({ vision, language, special, vocabulary, merges, tensors }) {
  const [LONGEST, LEAST, CHOICES] = [64, Math.log(1e-3), 5];

  // ---- numbers
  function fromHalf(data) {
    const halves = new Uint16Array(data.buffer.slice(data.byteOffset, data.byteOffset + data.byteLength));
    return Float32Array.from(halves, (half) => {
      const [sign, exponent, fraction] = [half >> 15 ? -1 : 1, (half >> 10) & 31, half & 1023];
      return sign * (exponent ? 2 ** (exponent - 15) * (1 + fraction / 1024) : 2 ** -14 * (fraction / 1024));
    });
  }
  const weights = Object.fromEntries(Object.entries(tensors).map(([name, data]) => [name, fromHalf(data)]));

  // Rows of `x` (count, width) times a matrix (out, width), plus a bias if the layer has one.
  function linear(x, count, name) {
    const [matrix, bias] = [weights[`${name}.weight`], weights[`${name}.bias`]];
    const width = x.length / count;
    const out = matrix.length / width;
    const y = new Float32Array(count * out);
    for (let o = 0; o < out; o++) {
      const row = o * width;
      for (let t = 0; t < count; t++) {
        const start = t * width;
        let [a, b, c, d] = [0, 0, 0, 0];
        let k = 0;
        for (; k + 3 < width; k += 4) {
          a += x[start + k] * matrix[row + k];
          b += x[start + k + 1] * matrix[row + k + 1];
          c += x[start + k + 2] * matrix[row + k + 2];
          d += x[start + k + 3] * matrix[row + k + 3];
        }
        for (; k < width; k++) a += x[start + k] * matrix[row + k];
        y[t * out + o] = a + b + c + d + (bias ? bias[o] : 0);
      }
    }
    return y;
  }

  function layerNorm(x, width, name) {
    const [scale, shift, y] = [weights[`${name}.weight`], weights[`${name}.bias`], new Float32Array(x.length)];
    for (let start = 0; start < x.length; start += width) {
      const row = x.subarray(start, start + width);
      const mean = row.reduce((sum, one) => sum + one, 0) / width;
      const variance = row.reduce((sum, one) => sum + (one - mean) ** 2, 0) / width;
      const factor = 1 / Math.sqrt(variance + vision.epsilon);
      for (let k = 0; k < width; k++) y[start + k] = (row[k] - mean) * factor * scale[k] + shift[k];
    }
    return y;
  }

  function rmsNorm(x, width, name) {
    const [scale, y] = [weights[`${name}.scale`], new Float32Array(x.length)];
    for (let start = 0; start < x.length; start += width) {
      const row = x.subarray(start, start + width);
      const factor = 1 / Math.sqrt(row.reduce((sum, one) => sum + one * one, 0) / width + language.epsilon);
      for (let k = 0; k < width; k++) y[start + k] = row[k] * factor * scale[k];
    }
    return y;
  }

  // The error function to 1.2e-7: Abramowitz and Stegun 1964, formula 7.1.26 with a rational fit (Numerical Recipes, erfc).
  function erf(x) {
    const t = 1 / (1 + 0.5 * Math.abs(x));
    const series = [0.17087277, -0.82215223, 1.48851587, -1.13520398, 0.27886807, -0.18628806, 0.09678418, 0.37409196, 1.00002368]
      .reduce((sum, c) => sum * t + c, 0);
    const rest = t * Math.exp(-x * x - 1.26551223 + t * series);
    return x >= 0 ? 1 - rest : rest - 1;
  }
  const gelu = (x) => x.map((one) => 0.5 * one * (1 + erf(one / Math.SQRT2)));
  const plus = (x, y) => x.map((one, k) => one + y[k]);

  function softmax(scores) {
    const most = scores.reduce((a, b) => Math.max(a, b), -Infinity);
    const shares = scores.map((one) => Math.exp(one - most));
    const sum = shares.reduce((a, b) => a + b, 0);
    return shares.map((one) => one / sum);
  }

  // What one query mixes from the values of `keys` tokens, and its weights. Both lie in rows; a part begins at `offset` of one.
  function mix(query, keys, values, count, offset, part) {
    const scores = new Float32Array(count);
    for (let n = 0; n < count; n++) {
      let sum = 0;
      for (let k = 0; k < part; k++) sum += query[k] * keys[n][offset + k];
      scores[n] = sum / Math.sqrt(part);
    }
    const [shares, mixed] = [softmax(scores), new Float32Array(part)];
    for (let n = 0; n < count; n++) for (let k = 0; k < part; k++) mixed[k] += shares[n] * values[n][offset + k];
    return { mixed, shares };
  }

  // ---- the eye: pixels (64, 64, 3) to one vector for each patch
  function look(pixels) {
    const { side, patch, width, depth, heads } = vision;
    const across = side / patch;
    const cut = new Float32Array(side * side * 3);
    let at = 0;
    for (let row = 0; row < across; row++) for (let column = 0; column < across; column++) {
      for (let y = 0; y < patch; y++) for (let x = 0; x < 3 * patch; x++) {
        cut[at++] = pixels[3 * ((row * patch + y) * side + column * patch) + x] / 127.5 - 1;
      }
    }
    const count = 1 + across * across;
    const embedded = linear(cut, count - 1, "vision.embed_patch");
    let tokens = new Float32Array(count * width);
    tokens.set(weights["vision.class_token"]);
    tokens.set(embedded, width);
    tokens = plus(tokens, weights["vision.positions"]);
    if (vision.early) tokens = layerNorm(tokens, width, "vision.norm_before_blocks");
    for (let block = 0; block < depth; block++) {
      const name = `vision.blocks.${block}`;
      const both = linear(layerNorm(tokens, width, `${name}.norm_before_attention`), count, `${name}.attention.project_in`);
      const rows = (part) => [...Array(count).keys()].map((t) => both.subarray((3 * t + part) * width, (3 * t + part + 1) * width));
      const [queries, keys, values, mixed] = [rows(0), rows(1), rows(2), new Float32Array(count * width)];
      const part = width / heads;
      for (let t = 0; t < count; t++) for (let head = 0; head < heads; head++) {
        const query = queries[t].subarray(head * part, (head + 1) * part);
        mixed.set(mix(query, keys, values, count, head * part, part).mixed, t * width + head * part);
      }
      tokens = plus(tokens, linear(mixed, count, `${name}.attention.project_out`));
      const wide = gelu(linear(layerNorm(tokens, width, `${name}.norm_before_mlp`), count, `${name}.expand`));
      tokens = plus(tokens, linear(wide, count, `${name}.contract`));
    }
    const seen = gelu(linear(tokens.slice(width), count - 1, "projector.expand"));
    return linear(seen, count - 1, "projector.contract");
  }

  // ---- the language model: vectors behind those in the caches, to scores of the next token and where the last one looked
  const emptyCaches = () => [...Array(language.depth)].map(() => ({ keys: [], values: [] }));
  const copied = (caches) => caches.map(({ keys, values }) => ({ keys: [...keys], values: [...values] }));

  function turn(row, heads, part, position) {
    const half = part / 2;
    for (let i = 0; i < half; i++) {
      const angle = position * language.base ** ((-2 * i) / part);
      const [cosine, sine] = [Math.cos(angle), Math.sin(angle)];
      for (let head = 0; head < heads; head++) {
        const [a, b] = [row[head * part + i], row[head * part + half + i]];
        row[head * part + i] = a * cosine - b * sine;
        row[head * part + half + i] = a * sine + b * cosine;
      }
    }
  }

  function read(vectors, caches) {
    const { width, depth, heads, groups } = language;
    const [count, past, part] = [vectors.length / width, caches[0].keys.length, width / heads];
    const [pair, looked] = [groups * part, []];
    let tokens = vectors;
    for (let block = 0; block < depth; block++) {
      const [name, { keys, values }] = [`language.blocks.${block}`, caches[block]];
      const all = linear(rmsNorm(tokens, width, `${name}.norm_before_attention`), count, `${name}.attention.project_in`);
      const mixed = new Float32Array(count * width);
      for (let t = 0; t < count; t++) {
        const row = all.subarray(t * (width + 2 * pair), (t + 1) * (width + 2 * pair));
        turn(row, heads + groups, part, past + t);
        keys.push(row.slice(width, width + pair));
        values.push(row.slice(width + pair));
        for (let head = 0; head < heads; head++) {
          const offset = Math.floor((head * groups) / heads) * part;
          const one = mix(row.subarray(head * part, (head + 1) * part), keys, values, past + t + 1, offset, part);
          mixed.set(one.mixed, t * width + head * part);
          if (t === count - 1 && block >= Math.floor(depth / 2)) looked.push(one.shares);
        }
      }
      tokens = plus(tokens, linear(mixed, count, `${name}.attention.project_out`));
      const normed = rmsNorm(tokens, width, `${name}.norm_before_mlp`);
      const [gate, up] = [linear(normed, count, `${name}.gate`), linear(normed, count, `${name}.up`)];
      tokens = plus(tokens, linear(gate.map((one, k) => (one / (1 + Math.exp(-one))) * up[k]), count, `${name}.down`));
    }
    const last = rmsNorm(tokens.slice(-width), width, "language.norm");
    const scores = linear(last, 1, "language.embedding"); // the head is the embedding
    const mean = looked[0].map((_, n) => looked.reduce((sum, one) => sum + one[n], 0) / looked.length);
    return { scores, looked: mean };
  }

  const vectorOf = (id) => weights["language.embedding.weight"].subarray(id * language.width, (id + 1) * language.width);
  const logarithms = (scores) => softmax(Float64Array.from(scores)).map(Math.log);

  // ---- words: byte-level byte-pair encoding as in data/text.py
  const bytesAsLetters = (() => {
    const printable = [...Array(256).keys()].filter((n) => (n > 32 && n < 127) || (n > 160 && n !== 173));
    const letters = Array(256);
    printable.forEach((n) => { letters[n] = String.fromCharCode(n); });
    let next = 256;
    for (let n = 0; n < 256; n++) letters[n] ??= String.fromCharCode(next++);
    return letters;
  })();
  const lettersAsBytes = new Map(bytesAsLetters.map((letter, n) => [letter, n]));
  const numbers = new Map(vocabulary.map((word, n) => [word, n]));
  const ranks = new Map(merges.map((pair, n) => [pair, n]));
  const PIECE = /'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+/gu;

  function encode(text) {
    for (const word of special) text = text.replaceAll(word, `${word[0]} ${word.slice(1)}`); // control words are plain text
    text = text.trimEnd().toLowerCase();
    if (!text) return [];
    const pieces = (/^\s/.test(text) ? text : ` ${text}`).match(PIECE);
    return pieces.flatMap((piece) => {
      const parts = [...new TextEncoder().encode(piece)].map((byte) => bytesAsLetters[byte]);
      for (;;) {
        const found = parts.slice(1).map((part, n) => ranks.get(`${parts[n]} ${part}`) ?? Infinity);
        const best = Math.min(Infinity, ...found);
        if (best === Infinity) return parts.map((part) => numbers.get(part));
        const at = found.indexOf(best);
        parts.splice(at, 2, parts[at] + parts[at + 1]);
      }
    });
  }

  function decode(ids) {
    const end = ids.indexOf(special.indexOf("<eos>"));
    const words = (end < 0 ? ids : ids.slice(0, end)).filter((id) => id >= special.length).map((id) => vocabulary[id]).join("");
    const text = new TextDecoder().decode(Uint8Array.from(words, (letter) => lettersAsBytes.get(letter)));
    return text.startsWith(" ") ? text.slice(1) : text;
  }

  // ---- the likeliest texts behind a prompt, best first; see beam in diagnostics/alternatives.py
  function beam(scores, caches, width) {
    const END = special.indexOf("<end>");
    let rows = [{ text: [], sum: 0, scores: logarithms(scores), caches }];
    let ended = [];
    for (let step = 0; step < LONGEST; step++) {
      const all = rows.flatMap((row) => Array.from(row.scores, (score, token) => ({ row, token, sum: row.sum + score })));
      let grown = all.sort((a, b) => b.sum - a.sum).slice(0, width);
      ended.push(...grown.filter(({ token }) => token === END).map(({ row, sum }) => ({ text: row.text, sum })));
      let floor = LEAST + Math.max(...grown.map(({ sum }) => sum), ...ended.map(({ sum }) => sum));
      ended = ended.filter(({ sum }) => sum > floor).sort((a, b) => b.sum - a.sum).slice(0, width);
      if (ended.length === width) floor = ended.at(-1).sum;
      grown = grown.filter(({ token, sum }) => token !== END && sum > floor);
      if (!grown.length) return ended;
      rows = grown.map(({ row, token, sum }) => {
        const own = copied(row.caches);
        return { text: [...row.text, token], sum, scores: logarithms(read(vectorOf(token), own).scores), caches: own };
      });
    }
    return [...ended, ...rows].sort((a, b) => b.sum - a.sum).slice(0, width);
  }

  let seen = { pixels: null, image: null }; // the question and the caption look at the same picture

  function ask(pixels, instruction, choices) {
    if (seen.pixels !== pixels) seen = { pixels, image: look(pixels) };
    const { image } = seen;
    const { width } = language;
    const [before, behind] = [[special.indexOf("<user>")], [...encode(instruction), special.indexOf("<assistant>")]];
    const count = image.length / width;
    const vectors = new Float32Array((before.length + count + behind.length) * width);
    before.forEach((id, n) => vectors.set(vectorOf(id), n * width));
    vectors.set(image, before.length * width);
    behind.forEach((id, n) => vectors.set(vectorOf(id), (before.length + count + n) * width));
    const caches = emptyCaches();
    const { scores, looked } = read(vectors, caches);
    const texts = beam(scores, caches, choices).map(({ text, sum }) => ({ text: decode(text), p: Math.exp(sum) }));
    return { answer: texts[0].text, choices: texts, attention: Array.from(looked.slice(before.length, before.length + count)) };
  }

  return { answer: (pixels, question) => ask(pixels, question, CHOICES), caption: (pixels) => ask(pixels, "Describe the image.", 1).answer, encode, decode };
}

// A scene of the playground as pixels: objects on the paper of scene `number`, as paste does in world/arranging.py.
function bookScene({ names: [shapes, colours], radii, side, scenes }, blobs, number, things) {
  const bytes = (name) => new Uint8Array(blobs[name].buffer, blobs[name].byteOffset, blobs[name].byteLength);
  const [paper, sprites] = [bytes(`paper/${number}`), bytes(`sprites/${scenes[number].light}`)];
  const area = (size) => 3 * (2 * radii[size] + 1) ** 2;
  const out = paper.slice();
  for (const [shape, colour, size, x, y] of [...things].sort((a, b) => a[2] - b[2])) {
    const before = radii.slice(0, size).reduce((sum, _, n) => sum + area(n) * shapes.length * colours.length, 0);
    const sprite = sprites.subarray(before + (shape * colours.length + colour) * area(size));
    const row = 3 * (2 * radii[size] + 1);
    for (let line = 0; line <= 2 * radii[size]; line++) {
      for (let i = line * row, j = 3 * ((y - radii[size] + line) * side + x - radii[size]); i < (line + 1) * row; i += 3, j += 3) {
        if (sprite[i] !== paper[0] || sprite[i + 1] !== paper[1] || sprite[i + 2] !== paper[2]) out.set(sprite.subarray(i, i + 3), j);
      }
    }
  }
  return out;
}

// Why a scene lies outside the world that the model was trained on, as outside does in world/arranging.py and in its words.
function bookOutside({ names: [shapes, colours], radii, trained, gap, slant }, words, things) {
  const reasons = things.length ? [] : [words.empty];
  for (const [shape, colour] of things) {
    const known = trained.some(([s, c]) => s === shape && c === colour);
    if (!known) reasons.push(words.new.replace("{colour}", colours[colour]).replace("{shape}", shapes[shape]));
  }
  things.forEach(([, , size, x, y], number) => things.slice(number + 1).forEach(([, , other, u, v]) => {
    const [across, down] = [Math.abs(x - u), Math.abs(y - v)];
    const room = Math.max(across, down) - radii[size] - radii[other] - 1;
    if (room < 0) reasons.push(words.overlap);
    else if (room < gap) reasons.push(words.close.replace("{gap}", gap));
    else if (Math.abs(across - down) < slant) reasons.push(words.slant);
  }));
  return [...new Set(reasons)].join("; ");
}
