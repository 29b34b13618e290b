// SPDX-License-Identifier: MIT
// web-ws: a WebSocket echo in node as one writes it, with npm's ws. No compression, no list of clients. ws hands each frame to the socket by itself; node
// brings those of one read together when the socket is corked, which ws does for each message only.
// Arguments: ws's module, --listen tcp://HOST:PORT
const { WebSocketServer } = await import(process.argv[2])
const [host, port] = process.argv[4].replace('tcp://', '').split(':')
const server = new WebSocketServer({ host, port: Number(port), perMessageDeflate: false, clientTracking: false, backlog: 4096 })
server.on('listening', () => console.log(`listening on tcp://${host}:${server.address().port}`))
server.on('connection', web => {
    web.on('message', (data, binary) => web.send(data, { binary }))
    web.on('error', () => {})
})
process.on('SIGTERM', () => process.exit(0))
