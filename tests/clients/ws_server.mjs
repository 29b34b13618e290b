// SPDX-License-Identifier: MIT
// An echo made of npm's ws, for weir's client. Argument: ws's module.
const { WebSocketServer } = await import(process.argv[2])
const server = new WebSocketServer({ port: 0, host: '127.0.0.1', handleProtocols: offered => (offered.has('echo') ? 'echo' : false) })
server.on('listening', () => console.log(`listening on tcp://127.0.0.1:${server.address().port}`))
server.on('connection', web => {
    web.ping('from the server')
    web.on('message', (data, binary) => {
        if (!binary && data.toString() === 'in fragments, please') {
            web.send('in ', { fin: false })
            web.ping('in between')
            web.send('fragments', { fin: true })
        } else {
            web.send(data, { binary })
        }
    })
})
process.on('SIGTERM', () => process.exit(0))
