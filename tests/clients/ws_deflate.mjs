// SPDX-License-Identifier: MIT
// npm's ws as a client, with the options of its perMessageDeflate, at a WebSocket echo that packs messages (RFC 7692).
// Arguments: ws's module, HOST:PORT, and how weir-echo was told to: nothing, or =keep.
import { randomBytes } from 'node:crypto'
const { default: WebSocket } = await import(process.argv[2])
const url = `ws://${process.argv[3]}/`
const keeps = process.argv[4] === '=keep'

function demand(condition, sentence) {
    if (!condition) {
        console.error(`ws: ${sentence}`)
        process.exit(1)
    }
}

function opened(perMessageDeflate) {
    return new Promise((resolve, reject) => {
        const web = new WebSocket(url, [], { perMessageDeflate })
        web.on('open', () => resolve(web))
        web.on('error', reject)
    })
}

const answer = web => new Promise(resolve => web.once('message', (data, binary) => resolve({ data, binary })))
const text = 'Die Grenzen meiner Sprache bedeuten die Grenzen meiner Welt. '

// Each of them, and what weir has to answer beside "permessage-deflate".
const none = { threshold: 0 }
const options = [
    [none, {}],
    [{ threshold: 1024 }, {}],
    [{ ...none, serverNoContextTakeover: true }, { server_no_context_takeover: true }],
    [{ ...none, clientNoContextTakeover: true }, { client_no_context_takeover: true }],
    [{ ...none, serverMaxWindowBits: 8 }, { server_max_window_bits: 8 }],
    [{ ...none, serverMaxWindowBits: 9 }, { server_max_window_bits: 9 }],
    [{ ...none, clientMaxWindowBits: 10 }, { client_max_window_bits: 10 }],
    [{ ...none, clientMaxWindowBits: 15, serverMaxWindowBits: 15 }, { client_max_window_bits: 15, server_max_window_bits: 15 }],
    [{ ...none, zlibDeflateOptions: { level: 9, memLevel: 9 } }, {}],
    [{ ...none, zlibInflateOptions: { chunkSize: 1024 } }, {}],
]
for (const [set, due] of options) {
    const web = await opened(set), what = JSON.stringify(set)
    if (!keeps)
        Object.assign(due, { server_no_context_takeover: true, client_no_context_takeover: true })
    demand(web.extensions.startsWith('permessage-deflate'), `${what}: extensions '${web.extensions}'`)
    const agreed = web._extensions['permessage-deflate'].params
    for (const name of ['server_no_context_takeover', 'client_no_context_takeover', 'server_max_window_bits', 'client_max_window_bits'])
        demand(agreed[name] === due[name], `${what}: ${name} is ${agreed[name]}, and ${due[name]} was due`)
    for (const message of ['', 'short', text, text.repeat(9), text.repeat(1000), 'ü'.repeat(30000), randomBytes(300), randomBytes(100000), text.repeat(9)]) {
        const came = answer(web)
        web.send(message)
        const { data, binary } = await came
        demand(binary === (typeof message !== 'string') && Buffer.compare(data, Buffer.from(message)) === 0,
            `${what}: ${message.length} came back as ${data.length}`)
    }
    const came = answer(web)
    web.send(text, { fin: false })
    web.ping('?')
    web.send(text, { fin: false })
    web.send(text, { fin: true })
    demand((await came).data.toString() === text.repeat(3), `${what}: fragments`)
    const unpacked = answer(web)
    web.send(text.repeat(9), { compress: false })
    demand((await unpacked).data.toString() === text.repeat(9), `${what}: sent as it is`)
    web.close()
}

// Many at once, in order.
await Promise.all(Array.from({ length: 50 }, async (_, index) => {
    const web = await opened(none)
    let next = 0
    const done = new Promise(resolve => web.on('message', data => {
        demand(data.toString() === text.repeat(9) + `${index}: ${next}`, `connection ${index}: ${next} was due`)
        if (++next === 100)
            resolve()
    }))
    for (let i = 0; i < 100; i++)
        web.send(text.repeat(9) + `${index}: ${i}`)
    await done
    web.terminate()
}))
console.log(`ws, --deflate${process.argv[4] ?? ''}: all is as it should be`)
process.exit(0)
