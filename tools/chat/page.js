// SPDX-License-Identifier: MIT
// The chat's page: what a person with nc types and reads (tools/chat/hall.c), with a face. A line beginning with "* " is the hall's, any other is NAME: TEXT; names
// have no blanks in them, so each line can be understood in one way only. Nothing that others say is ever markup: all of it goes into text nodes.
'use strict'

const LINES_MAX = 500          // in the log
const TEXT_MAX_BYTES = 1000    // the hall's
const GRAPH_SECONDS = 60
const RATE_SECONDS = 5
const RETRY_FIRST_MS = 400
const RETRY_MOST_MS = 15000
const ROOMS_EVERY_MS = 5000
const NAME_AGAIN_MS = 4000     // a name is taken: by our own old connection, perhaps

const element = id => document.getElementById(id)
const remembered = key => { try { return localStorage.getItem(key) } catch { return null } }
const remember = (key, value) => { try { localStorage.setItem(key, value) } catch { /* a private window */ } }

let socket = null
let me = ''                                  // as the hall calls us
let wanted = remembered('weir-chat-name')    // as we want to be called; null: as the hall likes
let room = ''                                // where we are; '' until the hall says so
let people = [], more_people = 0             // here; and how many more, whose names we were not told
let rooms = []                               // [name, how many], as last heard
let retry_ms = RETRY_FIRST_MS, retry_timer = 0, name_timer = 0
let seconds = new Array(GRAPH_SECONDS).fill(0)   // messages in each; the last is this one

function wanted_room() {
    let name = ''
    try { name = decodeURIComponent(location.hash.slice(1)) } catch { /* a "%" that means nothing */ }
    return name.replace(/[^!-~]/g, '').slice(0, 24) || 'lobby'
}

// --- what is seen ---

function hue(name) {
    let sum = 0
    for (const c of name)
        sum = (sum * 31 + c.codePointAt(0)) % 360
    return sum
}

function name_tag(kind, name) {
    const tag = document.createElement(kind)
    tag.className = 'name'
    tag.style.setProperty('--hue', hue(name))
    tag.textContent = name
    return tag
}

function show(kind, text, name) {
    const log = element('log'), line = document.createElement('p'), time = document.createElement('time'), now = new Date()
    const at_end = log.scrollHeight - log.scrollTop - log.clientHeight < 40
    line.className = kind
    time.dateTime = now.toISOString()
    time.textContent = now.toTimeString().slice(0, 5)
    line.append(time)
    if (name !== undefined)
        line.append(name_tag('b', name))
    line.append(text)
    log.append(line)
    while (log.childElementCount > LINES_MAX)
        log.firstChild.remove()
    if (at_end || kind === 'own')
        log.scrollTop = log.scrollHeight
    else
        element('latest').hidden = false
}

function show_state(state, text) {
    element('state').dataset.state = state
    element('state').textContent = text
    element('send').disabled = state !== 'online'
}

function show_people() {
    const list = people.slice().sort((a, b) => a.localeCompare(b)).map(name => {
        const item = name_tag('li', name)
        item.classList.toggle('you', name === me)
        return item
    })
    if (more_people > 0) {
        const item = document.createElement('li')
        item.textContent = `and ${more_people} more`
        list.push(item)
    }
    element('people').replaceChildren(...list)
    element('count').textContent = room === '' ? '' : `${people.length + more_people} here`
    show_rooms()
}

function show_rooms() {
    element('rooms').replaceChildren(...rooms.map(([name, count]) => {
        const item = document.createElement('li'), button = document.createElement('button'), how_many = document.createElement('span')
        button.type = 'button'
        button.setAttribute('aria-current', name === room)
        how_many.className = 'how-many'
        how_many.textContent = name === room ? people.length + more_people : count
        button.append(`#${name}`, how_many)
        button.addEventListener('click', () => go_to(name))
        item.append(button)
        return item
    }))
}

// --- how much is said ---

function draw_graph() {
    const canvas = element('graph'), ratio = devicePixelRatio || 1, width = canvas.clientWidth * ratio, height = canvas.clientHeight * ratio
    if (canvas.width !== width || canvas.height !== height)
        Object.assign(canvas, { width, height })
    const context = canvas.getContext('2d'), most = Math.max(1, ...seconds), step = width / GRAPH_SECONDS
    context.clearRect(0, 0, width, height)
    context.fillStyle = getComputedStyle(document.body).getPropertyValue('--accent')
    seconds.forEach((count, i) => {
        const bar = Math.max(count / most * height, ratio)
        context.fillRect(i * step, height - bar, Math.max(step - ratio, 1), bar)
    })
    const lately = seconds.slice(-RATE_SECONDS - 1, -1).reduce((sum, count) => sum + count, 0) / RATE_SECONDS
    element('rate').textContent = `${lately < 100 ? lately.toFixed(1) : Math.round(lately)}/s`
}

setInterval(() => {
    draw_graph()
    seconds = [...seconds.slice(1), 0]
}, 1000)

function said(kind, name, text) {
    seconds[GRAPH_SECONDS - 1]++
    show(kind, text, name)
}

// --- what the hall says ---

function entered(name) {
    room = name
    people = [me]
    more_people = 0
    element('room').textContent = name
    document.title = `#${name} · weir chat`
    if (wanted_room() !== name)
        history.replaceState(null, '', `#${encodeURIComponent(name)}`)
    show('notice', `you are in #${name}`)
    say('/who')
    say('/rooms')
}

function called(name) {
    people = people.map(other => other === me ? name : other)
    me = name
    if (document.activeElement !== element('name'))
        element('name').value = name
    show_people()
}

function name_is_taken(name) {
    show('notice', `${name} is taken`)
    clearTimeout(name_timer)
    if (name === wanted)
        name_timer = setTimeout(() => { if (me !== wanted) say(`/name ${wanted}`) }, NAME_AGAIN_MS)
}

const understood = [
    [/^\* you are (\S+), and in no room$/, name => {
        called(name)
        if (wanted !== null && wanted !== name)
            say(`/name ${wanted}`)
        say(`/join ${wanted_room()}`)
    }],
    [/^\* you are in (\S+), with (\d+) others$/, entered],
    [/^\* you are in no room$/, () => {}],
    [/^\* you are (\S+)$/, called],
    [/^\* (\S+) is taken$/, name_is_taken],
    [/^\* here are(.*?)(?: \((\d+) more\))?$/, (names, more) => {
        people = names.split(' ').filter(name => name !== '')
        more_people = Number(more ?? 0)
        show_people()
    }],
    [/^\* rooms:(.*)$/, list => {
        rooms = [...list.matchAll(/ (\S+) \((\d+)\)/g)].map(match => [match[1], match[2]])
        show_rooms()
    }],
    [/^\* there are no rooms$/, () => {}],
    [/^\* (\S+) has joined$/, name => {
        people.push(name)
        show_people()
        show('notice', `${name} has joined`)
    }],
    [/^\* (\S+) has left(.*)$/, (name, how) => {
        people = people.filter(other => other !== name)
        show_people()
        show('notice', `${name} has left${how}`)
    }],
    [/^\* (\S+) is now (\S+)$/, (old, name) => {
        people = people.map(other => other === old ? name : other)
        show_people()
        show('notice', `${old} is now ${name}`)
    }],
    [/^\* (.*)$/, text => show('notice', text)],
    [/^(\S+): (.*)$/s, (name, text) => said('other', name, text)],
]

function hear(line) {
    for (const [pattern, act] of understood) {
        const match = line.match(pattern)
        if (match !== null)
            return act(...match.slice(1))
    }
}

// --- the connection ---

function say(line) {
    if (socket?.readyState === WebSocket.OPEN)
        socket.send(line)
}

function connect() {
    clearTimeout(retry_timer)
    if (socket !== null)
        return
    show_state('connecting', 'connecting')
    socket = new WebSocket(`${location.protocol === 'https:' ? 'wss' : 'ws'}://${location.host}/chat`)
    socket.addEventListener('open', () => {
        retry_ms = RETRY_FIRST_MS
        show_state('online', 'online')
    })
    socket.addEventListener('message', event => hear(event.data))
    socket.addEventListener('close', () => {
        socket = null
        room = ''
        people = rooms = []
        more_people = 0
        show_people()
        const wait_ms = retry_ms * (0.75 + Math.random() / 2)
        retry_ms = Math.min(retry_ms * 2, RETRY_MOST_MS)
        show_state('offline', wait_ms < 1500 ? 'reconnecting' : `reconnecting in ${Math.round(wait_ms / 1000)} s`)
        retry_timer = setTimeout(connect, wait_ms)
    })
}

setInterval(() => { if (!document.hidden) say('/rooms') }, ROOMS_EVERY_MS)
addEventListener('online', connect)
addEventListener('pageshow', connect)
document.addEventListener('visibilitychange', () => { if (!document.hidden) connect() })

// --- what the person does ---

function go_to(name) {
    location.hash = encodeURIComponent(name)
    element('side').classList.remove('open')
    element('menu').setAttribute('aria-expanded', 'false')
}

addEventListener('hashchange', () => { if (wanted_room() !== room) say(`/join ${wanted_room()}`) })

element('say-form').addEventListener('submit', event => {
    event.preventDefault()
    const input = element('say'), text = input.value.trim()
    if (text === '' || socket?.readyState !== WebSocket.OPEN || room === '')
        return
    if (new TextEncoder().encode(text).length > TEXT_MAX_BYTES)
        return show('notice', `that is too long: ${TEXT_MAX_BYTES} bytes at most`)
    say(text)
    if (!text.startsWith('/'))
        said('own', me, text)
    input.value = ''
})

element('name-form').addEventListener('submit', event => {
    event.preventDefault()
    const name = element('name').value.trim()
    if (!/^[!-~]{1,24}$/.test(name))
        return show('notice', 'a name has 1 to 24 letters, digits or signs, and no blanks')
    wanted = name
    remember('weir-chat-name', name)
    element('name').blur()
    say(`/name ${name}`)
})

element('join-form').addEventListener('submit', event => {
    event.preventDefault()
    const name = element('join').value.trim().replace(/^#/, '')
    if (!/^[!-~]{1,24}$/.test(name))
        return show('notice', 'a room has a name of 1 to 24 letters, digits or signs, and no blanks')
    element('join').value = ''
    go_to(name)
})

element('menu').addEventListener('click', () => {
    const open = element('side').classList.toggle('open')
    element('menu').setAttribute('aria-expanded', String(open))
})
element('log').addEventListener('click', () => element('side').classList.remove('open'))
element('log').addEventListener('scroll', () => {
    const log = element('log')
    if (log.scrollHeight - log.scrollTop - log.clientHeight < 40)
        element('latest').hidden = true
})
element('latest').addEventListener('click', () => { element('log').scrollTop = element('log').scrollHeight })

connect()
