'use strict';

/* A regtest node in memory that a test tells what to do: one JSON object a line in, one a line out.

   It is bcoin, unchanged but for three values of its regtest, which are older than what Bitcoin Core has had since:
   the prefixes of addresses and keys, and how soon SegWit is active. It serves its own JSON-RPC, and beside it an
   Esplora-shaped interface (esplora.js). It ends when its input does, so that nothing outlives the tests. */

process.env.NODE_BACKEND = 'js';

const readline = require('readline');

const {regtest} = require('bcoin/lib/protocol/networks');
Object.assign(regtest.addressPrefix, {pubkeyhash: 0x6f, scripthash: 0xc4, bech32: 'bcrt'});
Object.assign(regtest.keyPrefix, {
  privkey: 0xef, xpubkey: 0x043587cf, xprivkey: 0x04358394, xpubkey58: 'tpub', xprivkey58: 'tprv'
});
Object.assign(regtest, {minerWindow: 4, activationThreshold: 3});

const FullNode = require('bcoin/lib/node/fullnode');
const KeyRing = require('bcoin/lib/primitives/keyring');
const Address = require('bcoin/lib/primitives/address');
const MTX = require('bcoin/lib/primitives/mtx');
const TX = require('bcoin/lib/primitives/tx');
const Coin = require('bcoin/lib/primitives/coin');
const CoinView = require('bcoin/lib/coins/coinview');
const Script = require('bcoin/lib/script/script');

const esplora = require('./esplora');

const MATURE = 100; // confirmations before a coinbase may be spent
const FINAL = 0xfffffffe; // an input's sequence that forbids replacement
const REPLACEABLE = 0xfffffffd;

class Rig {
  constructor(password) {
    this.node = new FullNode({
      network: 'regtest', memory: true, workers: false, listen: false, logConsole: false, logLevel: 'none',
      httpHost: '127.0.0.1', httpPort: 0, apiKey: password, replaceByFee: true, indexTX: true
    });
    this.key = KeyRing.generate('regtest');
    this.key.witness = true;
    this.known = new Map(); // block hash: block
    this.coins = new Map(); // 'txid:vout': a coin of ours that a transaction of ours spends or spent
  }

  get tip() {
    return {height: this.node.chain.height, hash: this.node.chain.tip.rhash()};
  }

  // The best chain's blocks, by height.
  async blocks() {
    const found = [];
    for (let height = 0; height <= this.node.chain.height; height++) {
      const hash = await this.node.chain.getHash(height);
      if (!this.known.has(hash))
        this.known.set(hash, await this.node.getBlock(hash));
      found.push(this.known.get(hash));
    }
    return found;
  }

  // Mines on the tip, or on another block of the chain, with these transactions alone where they are given.
  async mineOne(address, onto, transactions) {
    const job = await this.node.miner.cpu.createJob(onto, address);
    if (transactions) {
      job.attempt.items = [];
      job.attempt.fees = 0;
      for (const tx of transactions)
        job.attempt.pushTX(tx, this.viewOf(tx));
      job.refresh();
    }
    const block = await job.mineAsync();
    const entry = await this.node.chain.add(block);
    if (!entry)
      throw new Error('the chain did not take the block');
    return entry;
  }

  async mine({blocks = 1, to}) {
    const address = to ? Address.fromString(to, 'regtest') : this.key.getAddress();
    for (let i = 0; i < blocks; i++)
      await this.mineOne(address);
    return this.tip;
  }

  // Blocks are built on the one `depth` below the tip, as another miner would: with none of our mempool's transactions
  // but with those of `include` in the first. The chain goes over to them once they are more than it loses.
  async reorg({depth, blocks = depth + 1, include = []}) {
    const from = this.node.chain.height - depth;
    const lost = (await this.blocks()).slice(from + 1).flatMap(block => block.txs.slice(1));
    const first = include.map(raw => TX.fromRaw(raw, 'hex'));
    let onto = await this.node.chain.getEntry(from);
    for (let i = 0; i < blocks; i++)
      onto = await this.mineOne(this.key.getAddress(), onto, i === 0 ? first : []);
    if (this.node.chain.tip.hash === onto.hash)
      await this.takeBack(lost, first);
    return this.tip;
  }

  // What was in lost blocks and can still be mined waits again, as in Bitcoin Core (this node drops it where its
  // mempool is empty).
  async takeBack(lost, mined) {
    const spent = new Set(mined.flatMap(tx => tx.inputs.map(({prevout}) => `${prevout.txid()}:${prevout.index}`)));
    for (const tx of lost) {
      const rivals = tx.inputs.some(({prevout}) => spent.has(`${prevout.txid()}:${prevout.index}`));
      if (rivals)
        tx.outputs.forEach((_, index) => spent.add(`${tx.txid()}:${index}`)); // nor can what spends it
      else if (!this.node.mempool.hasEntry(tx.hash('hex')))
        await this.submit(tx);
    }
  }

  viewOf(tx) {
    const view = new CoinView();
    for (const {prevout} of tx.inputs)
      view.addCoin(this.coins.get(`${prevout.txid()}:${prevout.index}`));
    return view;
  }

  // A confirmed coin of ours that nothing spends yet.
  async freeCoin(least) {
    const script = Script.fromAddress(this.key.getAddress()).toRaw();
    const spent = new Set();
    const ours = [];
    const height = this.node.chain.height;
    for (const [at, block] of (await this.blocks()).entries()) {
      for (const tx of block.txs) {
        for (const {prevout} of tx.inputs)
          spent.add(`${prevout.txid()}:${prevout.index}`);
        if (tx.isCoinbase() && height + 1 - at < MATURE)
          continue;
        for (const [index, output] of tx.outputs.entries()) {
          if (output.value >= least && output.script.toRaw().equals(script))
            ours.push(Coin.fromTX(tx, index, at));
        }
      }
    }
    for (const coin of ours) {
      const name = `${coin.txid()}:${coin.index}`;
      if (!spent.has(name) && !this.node.mempool.isSpent(coin.hash, coin.index)) {
        this.coins.set(name, coin);
        return coin;
      }
    }
    throw new Error('no coin is large and old enough: mine more blocks');
  }

  // A signed transaction from these coins to [[address, satoshi], ...], the rest to ourselves.
  sign(coins, outputs, fee, sequence) {
    const mtx = new MTX();
    let rest = -fee;
    for (const coin of coins) {
      mtx.addCoin(coin).sequence = sequence;
      rest += coin.value;
    }
    for (const [address, sat] of outputs) {
      mtx.addOutput(Address.fromString(address, 'regtest'), sat);
      rest -= sat;
    }
    if (rest < 0)
      throw new Error('the coins do not hold so much');
    mtx.addOutput(this.key.getAddress(), rest);
    mtx.sign(this.key);
    return mtx.toTX();
  }

  async submit(tx) {
    const missing = await this.node.mempool.addTX(tx);
    if (missing)
      throw new Error('the mempool knows no coin that it spends');
    return {txid: tx.txid(), raw: tx.toRaw().toString('hex')};
  }

  async pay({outputs, fee = 1000 + 50 * outputs.length, replaceable = true}) {
    const total = outputs.reduce((sum, [, sat]) => sum + sat, fee);
    const coin = await this.freeCoin(total);
    return await this.submit(this.sign([coin], outputs, fee, replaceable ? REPLACEABLE : FINAL));
  }

  // The same coins to others, signed and not sent.
  rival({raw, outputs, fee = 5000 + 100 * outputs.length}) {
    const coins = TX.fromRaw(raw, 'hex').inputs.map(
      ({prevout}) => this.coins.get(`${prevout.txid()}:${prevout.index}`));
    const tx = this.sign(coins, outputs, fee, REPLACEABLE);
    return {txid: tx.txid(), raw: tx.toRaw().toString('hex')};
  }

  evictRivals(tx) {
    for (const {prevout} of tx.inputs) {
      const entry = this.node.mempool.getSpent(prevout.hash, prevout.index);
      if (entry && entry.txid() !== tx.txid())
        this.node.mempool.evictEntry(entry);
    }
  }

  // This node's mempool refuses a replacement instead of weighing its fee, so the one that it replaces leaves first:
  // what is seen from outside is what Bitcoin Core's mempool shows.
  async send({raw}) {
    const tx = TX.fromRaw(raw, 'hex');
    this.evictRivals(tx);
    return await this.submit(tx);
  }

  forget({txid}) {
    const entry = this.node.mempool.getEntry(Buffer.from(txid, 'hex').reverse().toString('hex'));
    this.node.mempool.evictEntry(entry);
    return {};
  }

  async do({do: name, ...parameters}) {
    if (!['mine', 'reorg', 'pay', 'rival', 'send', 'forget'].includes(name))
      throw new Error(`unknown: ${name}`);
    return await this[name](parameters);
  }
}

async function main() {
  const lines = readline.createInterface({input: process.stdin, terminal: false});
  lines.on('close', () => process.exit(0));
  const rig = new Rig(process.argv[2]);
  await rig.node.open();
  await rig.mine({blocks: Number(process.argv[3])});
  const server = await esplora.serve(rig);
  const say = value => process.stdout.write(JSON.stringify(value) + '\n');
  let before = Promise.resolve();
  lines.on('line', (line) => {
    before = before.then(() => rig.do(JSON.parse(line))).then(
      result => say({result}), error => say({error: error.message}));
  });
  say({rpc: rig.node.http.http.address().port, esplora: server.address().port});
}

main().catch((error) => {
  console.error(error.stack);
  process.exit(1);
});
