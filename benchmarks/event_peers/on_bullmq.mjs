// BullMQ: a hundred jobs at once in one process of Node, finished jobs removed. The same commands as tally.py.

import { existsSync, linkSync, writeFileSync } from "node:fs";
import { Queue, Worker } from "bullmq";

const { BENCH_URL, BENCH_RESULT, BENCH_FAILS } = process.env;
const [COUNT, LIMIT] = [Number(process.env.BENCH_COUNT), Number(process.env.BENCH_LIMIT)];
const [AT_ONCE, RATE, CONCURRENCY] = [1000, 200, 100];
const BEGUN = BENCH_RESULT.replace(/\.json$/, ".begun");
const address = new URL(BENCH_URL);
const connection = { host: address.hostname, port: Number(address.port) };
const options = { removeOnComplete: true, removeOnFail: true, attempts: 2 };

const now = () => Number(process.hrtime.bigint()) / 1e9; // the clock of Python's perf_counter
const pause = (seconds) => new Promise((resolve) => setTimeout(resolve, Math.max(0, seconds * 1000)));
const payload = (number, at = 0) => ({ id: number, at, name: "lamp", price: 12.5, tags: ["new", "light"] });

function work() {
  const failed = new Set();
  const delays = [];
  let count = 0;
  let began = 0;
  let finished = false;

  function finish() {
    if (!finished) {
      finished = true;
      writeFileSync(BENCH_RESULT + ".part", JSON.stringify({ count, seconds: now() - began, delays }));
      linkSync(BENCH_RESULT + ".part", BENCH_RESULT);
    }
  }

  async function handle({ data }) {
    const time = now();
    if (!began) {
      began = time;
      writeFileSync(BEGUN, "");
      setTimeout(finish, LIMIT * 1000);
    }
    if (BENCH_FAILS === "yes" && !failed.has(data.id)) {
      failed.add(data.id);
      throw new Error("again");
    }
    if (data.id < 0) return;
    count += 1;
    if (data.at) delays.push(time - data.at);
    if (count === COUNT) finish();
  }

  new Worker("bench", handle, { connection: { ...connection, maxRetriesPerRequest: null }, concurrency: CONCURRENCY });
}

async function emit(queue, many) {
  await queue.add("job", payload(0), options);
  const began = now();
  for (let first = 1; first < COUNT; first += many ? AT_ONCE : 1) {
    if (many) {
      const numbers = Array.from({ length: Math.min(AT_ONCE, COUNT - first) }, (_, index) => first + index);
      await queue.addBulk(numbers.map((number) => ({ name: "job", data: payload(number), opts: options })));
    } else {
      await queue.add("job", payload(first), options);
    }
  }
  console.log((COUNT - 1) / (now() - began));
}

async function pace(queue) {
  while (!existsSync(BEGUN)) {
    await queue.add("job", payload(-1), options);
    await pause(0.1);
  }
  await pause(1);
  const began = now();
  for (let number = 0; number < COUNT; number++) {
    await pause(began + number / RATE - now());
    await queue.add("job", payload(number, now()), options);
  }
}

const command = process.argv[2];
if (command === "work") {
  work();
} else {
  const queue = new Queue("bench", { connection });
  await queue.waitUntilReady();
  await (command === "latency" ? pace(queue) : emit(queue, command === "emit-many"));
  await queue.close();
}
