// SPDX-License-Identifier: MIT
// npm's ws as a client, with each of its options, at a WebSocket echo. Arguments: ws's module, HOST:PORT.
import { randomBytes } from 'node:crypto'
import http from 'node:http'
const { default: WebSocket } = await import(process.argv[2])
const url = `ws://${process.argv[3]}/a/path`

function demand(condition, sentence) {
    if (!condition) {
        console.error(`ws: ${sentence}`)
        process.exit(1)
    }
}

function opened(options, protocols = []) {
    return new Promise((resolve, reject) => {
        const web = new WebSocket(url, protocols, options)
        web.on('open', () => resolve(web))
        web.on('error', reject)
    })
}

const closed = web => new Promise(resolve => web.on('close', (code, reason) => resolve({ code, reason: reason.toString() })))
const answer = web => new Promise(resolve => web.once('message', (data, binary) => resolve({ data, binary })))

async function echoes(web, what) {
    for (const message of ['', 'text', 'ü'.repeat(40000), randomBytes(1), randomBytes(126), randomBytes(65536), randomBytes(500000)]) {
        const came = answer(web)
        web.send(message)
        const { data, binary } = await came
        demand(binary === (typeof message !== 'string') && Buffer.compare(data, Buffer.from(message)) === 0,
            `${what}: ${message.length} came back as ${data.length}`)
    }
    const came = answer(web)
    web.send('in ', { fin: false })
    web.send('frag', { fin: false })
    web.send('ments', { fin: true })
    demand((await came).data.toString() === 'in fragments', `${what}: fragments`)
    const pong = new Promise(resolve => web.once('pong', resolve))
    web.ping('are you there?')
    demand((await pong).toString() === 'are you there?', `${what}: pong`)
    const end = closed(web)
    web.close(4000, 'enough')
    demand((await end).code === 4000, `${what}: close`)
}

const options = {
    'by itself': {},
    'perMessageDeflate, offered': { perMessageDeflate: true },
    'perMessageDeflate, offered with parameters': { perMessageDeflate: { clientNoContextTakeover: true, serverMaxWindowBits: 10 } },
    'no perMessageDeflate': { perMessageDeflate: false },
    origin: { origin: 'https://example.org' },
    headers: { headers: { 'X-Some': 'thing', Cookie: 'a=b' } },
    handshakeTimeout: { handshakeTimeout: 5000 },
    maxPayload: { maxPayload: 1 << 20 },
    skipUTF8Validation: { skipUTF8Validation: true },
    followRedirects: { followRedirects: true },
    autoPong: { autoPong: false },
    allowSynchronousEvents: { allowSynchronousEvents: false },
    generateMask: { generateMask: mask => mask.fill(0) },
    agent: { agent: new http.Agent() },
    protocolVersion: { protocolVersion: 13 },
}
for (const [what, set] of Object.entries(options)) {
    const web = await opened(set)
    demand(web.extensions === '' && web.protocol === '', `${what}: extensions '${web.extensions}', protocol '${web.protocol}'`)
    await echoes(web, what)
}

// What is refused, and by which status.
const refusal = set => new Promise(resolve => {
    const web = new WebSocket(url, [], set)
    web.on('unexpected-response', (request, response) => { resolve(response.statusCode); request.destroy() })
    web.on('open', () => resolve(0))
    web.on('error', () => {})
})
demand(await refusal({ protocolVersion: 8 }) === 426, 'version 8 is not refused by 426')
const offered = await opened({}, ['chat.v2', 'chat.v1']).then(() => 'opened', error => error.message)
demand(offered === 'Server sent no subprotocol', `sub-protocols were offered, and none is spoken: ${offered}`)

// What the RFC forbids, told by its code.
async function broken(bytes, due) {
    const web = await opened({})
    const end = closed(web)
    web.on('error', () => {})
    web._socket.write(Buffer.from(bytes))
    const { code } = await end
    demand(code === due, `${Buffer.from(bytes).toString('hex')}: closed by ${code}, and ${due} was due`)
}
await broken([0x81, 0x01, 0x41], 1002)
await broken([0xc1, 0x80, 1, 2, 3, 4], 1002)
await broken([0x83, 0x80, 1, 2, 3, 4], 1002)
await broken([0x81, 0x81, 0, 0, 0, 0, 0xff], 1007)
await broken([0x82, 0xff, 0, 0, 0, 0, 0x7f, 0, 0, 0], 1009)

// Many at once, many messages under way, all in order.
await Promise.all(Array.from({ length: 50 }, async (_, index) => {
    const web = await opened({ perMessageDeflate: false })
    let next = 0
    const done = new Promise(resolve => web.on('message', data => {
        demand(data.toString() === `${index}: ${next}`, `${data} came, and ${index}: ${next} was due`)
        if (++next === 200)
            resolve()
    }))
    for (let i = 0; i < 200; i++)
        web.send(`${index}: ${i}`)
    await done
    web.terminate()
}))
console.log('ws: all is as it should be')
process.exit(0)
