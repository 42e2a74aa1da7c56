'use strict';

/* A FAKE of an Esplora server: the paths and shapes that Esplora's API.md documents, of those that a client of ours
   may want, filled with what the real node beside it holds. Pages have the documented sizes. */

const http = require('http');

const Address = require('bcoin/lib/primitives/address');
const Script = require('bcoin/lib/script/script');

const MEMPOOL_PAGE = 50;
const CHAIN_PAGE = 25;

// Every transaction of the chain and the mempool: [{tx, status}], the newest first.
async function everything(rig) {
  const found = [];
  for (const [height, block] of (await rig.blocks()).entries()) {
    const status = {confirmed: true, block_height: height, block_hash: block.rhash(), block_time: block.time};
    for (const tx of block.txs)
      found.push({tx, status});
  }
  for (const entry of rig.node.mempool.map.values())
    found.push({tx: entry.tx, status: {confirmed: false}});
  return found.reverse();
}

function showOutput({script, value}) {
  const address = Address.fromScript(script);
  const shown = {
    scriptpubkey: script.toRaw().toString('hex'),
    scriptpubkey_asm: script.toASM(),
    scriptpubkey_type: script.isWitnessPubkeyhash() ? 'v0_p2wpkh' : script.isNulldata() ? 'op_return' : 'unknown'
  };
  if (address)
    shown.scriptpubkey_address = address.toString('regtest');
  return {...shown, value};
}

function show({tx, status}, outputs) {
  const vin = tx.inputs.map((input) => {
    const prevout = outputs.get(`${input.prevout.txid()}:${input.prevout.index}`);
    return {
      txid: input.prevout.txid(),
      vout: input.prevout.index,
      prevout: prevout ? showOutput(prevout) : null,
      scriptsig: input.script.toRaw().toString('hex'),
      scriptsig_asm: input.script.toASM(),
      witness: input.witness.items.map(item => item.toString('hex')),
      is_coinbase: tx.isCoinbase(),
      sequence: input.sequence,
      value: prevout ? prevout.value : 0
    };
  });
  const paid = tx.outputs.reduce((sum, output) => sum + output.value, 0);
  const fee = tx.isCoinbase() ? 0 : vin.reduce((sum, input) => sum + input.value, -paid);
  for (const input of vin)
    delete input.value;
  return {
    txid: tx.txid(), version: tx.version, locktime: tx.locktime, vin, vout: tx.outputs.map(showOutput),
    size: tx.getSize(), weight: tx.getWeight(), fee, status
  };
}

function outputsOf(all) {
  const outputs = new Map();
  for (const {tx} of all) {
    for (const [index, output] of tx.outputs.entries())
      outputs.set(`${tx.txid()}:${index}`, output);
  }
  return outputs;
}

// Transactions that pay the address or spend from it.
async function history(rig, text) {
  const script = Script.fromAddress(Address.fromString(text, 'regtest')).toRaw();
  const all = await everything(rig);
  const outputs = outputsOf(all);
  const touches = output => output !== undefined && output.script.toRaw().equals(script);
  const found = all.filter(({tx}) => tx.outputs.some(touches)
    || tx.inputs.some(({prevout}) => touches(outputs.get(`${prevout.txid()}:${prevout.index}`))));
  const shown = found.map(one => show(one, outputs));
  return {
    mempool: shown.filter(tx => !tx.status.confirmed).slice(0, MEMPOOL_PAGE),
    chain: shown.filter(tx => tx.status.confirmed)
  };
}

async function outspends(rig, txid) {
  const all = await everything(rig);
  const found = all.find(({tx}) => tx.txid() === txid);
  if (!found)
    return null;
  const spends = found.tx.outputs.map(() => ({spent: false}));
  for (const {tx, status} of all) {
    for (const [vin, {prevout}] of tx.inputs.entries()) {
      if (prevout.txid() === txid)
        spends[prevout.index] = {spent: true, txid: tx.txid(), vin, status};
    }
  }
  return spends;
}

const ROUTES = [
  [/^\/blocks\/tip\/height$/, async rig => rig.tip.height],
  [/^\/blocks\/tip\/hash$/, async rig => rig.tip.hash],
  [/^\/block-height\/(\d+)$/, async (rig, height) => {
    const block = (await rig.blocks())[Number(height)];
    return block ? block.rhash() : null;
  }],
  [/^\/address\/(\w+)\/txs$/, async (rig, address) => {
    const {mempool, chain} = await history(rig, address);
    return [...mempool, ...chain.slice(0, CHAIN_PAGE)];
  }],
  [/^\/address\/(\w+)\/txs\/mempool$/, async (rig, address) => (await history(rig, address)).mempool],
  [/^\/address\/(\w+)\/txs\/chain(?:\/(\w+))?$/, async (rig, address, last) => {
    const {chain} = await history(rig, address);
    const from = last ? chain.findIndex(tx => tx.txid === last) + 1 : 0;
    return last && from === 0 ? [] : chain.slice(from, from + CHAIN_PAGE);
  }],
  [/^\/tx\/(\w+)$/, async (rig, txid) => {
    const all = await everything(rig);
    const found = all.find(({tx}) => tx.txid() === txid);
    return found ? show(found, outputsOf(all)) : null;
  }],
  [/^\/tx\/(\w+)\/outspends$/, outspends]
];

async function answer(rig, path) {
  for (const [pattern, route] of ROUTES) {
    const match = pattern.exec(path);
    if (match)
      return await route(rig, ...match.slice(1));
  }
  return null;
}

async function serve(rig) {
  const server = http.createServer((request, response) => {
    answer(rig, request.url).then((value) => {
      const text = value !== null && typeof value === 'object';
      const body = value === null ? 'Not found' : text ? JSON.stringify(value) : String(value);
      response.writeHead(value === null ? 404 : 200, {'Content-Type': text ? 'application/json' : 'text/plain'});
      response.end(body);
    }, (error) => {
      response.writeHead(400, {'Content-Type': 'text/plain'});
      response.end(error.message);
    });
  });
  await new Promise(resolve => server.listen(0, '127.0.0.1', resolve));
  return server;
}

module.exports = {serve};
