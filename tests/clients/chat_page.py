# SPDX-License-Identifier: MIT
"""weir-chat's page in headless Chromium, driven by chromedriver (W3C WebDriver): two browsers, one of them a phone, and somebody with nc talk to each other; what
matters on the page is asserted, and what it looks like is kept.

usage: chat_page.py WEIR_CHAT DIRECTORY        screenshots: DIRECTORY/chat-desk.png, chat-phone.png"""

import base64
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

CHAT, DIRECTORY = sys.argv[1:]
PATIENCE_S = 30
FLAGS = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars", "--force-color-profile=srgb"]
PHONE = {"deviceMetrics": {"width": 390, "height": 780, "pixelRatio": 2}}


class Driver:
    """chromedriver, and what is said to it."""

    def __init__(self):
        self.process = subprocess.Popen(["chromedriver", "--port=0"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
                                        start_new_session=True)
        for line in self.process.stdout:
            match = re.search(r"started successfully on port (\d+)", line)
            if match:
                self.url = f"http://127.0.0.1:{match.group(1)}"
                return
        sys.exit("chat_page.py: chromedriver has not started")

    def call(self, method, path, body=None):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, {"Content-Type": "application/json"}, method=method)
        try:
            with urllib.request.urlopen(request, timeout=60) as response:
                return json.load(response)["value"]
        except urllib.error.HTTPError as error:
            sys.exit(f"chat_page.py: {method} {path}: {json.load(error)['value']['message'].splitlines()[0]}")

    def stop(self):
        """With all browsers that are left."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(20)


class Browser:
    def __init__(self, driver, name, phone=False):
        options = {"args": FLAGS + ["--window-size=1060,700"], **({"mobileEmulation": PHONE} if phone else {})}
        made = driver.call("POST", "/session", {"capabilities": {"alwaysMatch": {"goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}}}})
        self.driver, self.name, self.path = driver, name, f"/session/{made['sessionId']}"

    def call(self, method, path, body=None):
        return self.driver.call(method, self.path + path, body)

    def open(self, url):
        self.call("POST", "/url", {"url": url})

    def run(self, script, *arguments):
        return self.call("POST", "/execute/sync", {"script": script, "args": list(arguments)})

    def find(self, selector):
        return next(iter(self.call("POST", "/element", {"using": "css selector", "value": selector}).values()))

    def type(self, selector, text):
        """As fingers do, and Enter."""
        element = self.find(selector)
        self.call("POST", f"/element/{element}/clear", {})
        self.call("POST", f"/element/{element}/value", {"text": text + "\ue007"})

    def click(self, selector):
        self.call("POST", f"/element/{self.find(selector)}/click", {})

    def text(self, selector):
        return self.run("return document.querySelector(arguments[0]).textContent", selector)

    def texts(self, selector):
        return self.run("return [...document.querySelectorAll(arguments[0])].map(e => e.textContent)", selector)

    def until(self, what, condition):
        deadline = time.monotonic() + PATIENCE_S
        while not condition():
            if time.monotonic() > deadline:
                self.keep("lost")
                sys.exit(f"chat_page.py: {self.name}: not in {PATIENCE_S} s: {what}; its log: {self.texts('#log p')[-5:]}")
            time.sleep(0.05)

    def until_said(self, text, kind="other"):
        self.until(f"'{text}' is said", lambda: any(text in line for line in self.texts(f"#log p.{kind}")))

    def until_here(self, *names):
        self.until(f"{names} are here", lambda: sorted(self.texts("#people li")) == sorted(names))

    def until_online(self, state="online"):
        self.until(state, lambda: self.run("return document.querySelector('#state').dataset.state") == state)

    def keep(self, what):
        path = os.path.join(DIRECTORY, f"chat-{what}.png")
        with open(path, "wb") as file:
            file.write(base64.b64decode(self.call("GET", "/screenshot")))
        return path

    def complaints(self):
        """What the page's console says is wrong, but for connections that were refused while there was no server."""
        return [entry["message"] for entry in self.call("POST", "/se/log", {"type": "browser"})
                if entry["level"] == "SEVERE" and "ERR_CONNECTION_REFUSED" not in entry["message"]]

    def close(self):
        self.call("DELETE", "")


class Chat:
    def __init__(self, lines="tcp://127.0.0.1:0", web="tcp://127.0.0.1:0"):
        self.process = subprocess.Popen([CHAT, "--shards", "2", "--listen", lines, "--web", web], stdout=subprocess.PIPE, text=True)
        self.lines = self.process.stdout.readline().split()[-1]
        self.page = self.process.stdout.readline().split()[-1]
        if not self.page.startswith("http://"):
            sys.exit(f"chat_page.py: weir-chat said '{self.page}'")

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        if self.process.wait(20) != 0:
            sys.exit(f"chat_page.py: weir-chat answered {self.process.returncode}")


class Nc:
    """Somebody with nc."""

    def __init__(self, address):
        host, port = address.removeprefix("tcp://").rsplit(":", 1)
        self.socket = socket.create_connection((host, int(port)), PATIENCE_S)
        self.file = self.socket.makefile("rb")

    def say(self, line):
        self.socket.sendall(line.encode() if isinstance(line, str) else line)
        self.socket.sendall(b"\n")

    def until(self, text):
        for line in self.file:
            if text in line.decode():
                return
        sys.exit(f"chat_page.py: nc never read '{text}'")


def must(condition, sentence):
    if not condition:
        sys.exit(f"chat_page.py: {sentence}")


def talk(chat, desk, phone):
    """Everybody meets in one room, and hears the others, whoever they are."""
    desk.open(chat.page + "#%zz")  # which names no room
    desk.until_online()
    desk.until("in the lobby", lambda: desk.text("#room") == "lobby")
    must(re.fullmatch(r"guest\d+ \(you\)|guest\d+", desk.texts("#people li")[0]), f"nobody is here: {desk.texts('#people li')}")
    desk.type("#name", "anna")
    desk.until_here("anna")
    phone.open(chat.page)
    phone.until_online()
    phone.click("#menu")
    phone.until("the side is open", lambda: phone.run("return document.querySelector('#side').getBoundingClientRect().left") == 0)
    phone.type("#name", "bert")
    phone.until_here("anna", "bert")
    desk.until_here("anna", "bert")
    phone.click("#menu")
    nc = Nc(chat.lines)
    nc.say("/name carl")
    nc.say("/join lobby")
    desk.until_here("anna", "bert", "carl")
    desk.type("#say", "Good morning! ☀ Grüße")
    nc.until("anna: Good morning! ☀ Grüße")
    phone.until_said("Good morning! ☀ Grüße")
    desk.until_said("Good morning! ☀ Grüße", "own")
    phone.type("#say", "<b>not bold</b> & <script>alert(1)</script>")
    desk.until_said("<b>not bold</b> & <script>alert(1)</script>")
    must(desk.run("return document.querySelectorAll('#log p.other b:not(.name), #log script').length") == 0, "what was said has become markup")
    nc.until("bert: <b>not bold</b>")
    nc.say("from a terminal")
    desk.until_said("from a terminal")
    phone.until_said("from a terminal")
    nc.say(b"no \xff UTF-8, and \x1b[31m no escapes")
    desk.until_said("no   UTF-8, and  [31m no escapes")
    for i in range(60):
        nc.say(f"number {i}")
    desk.until_said("number 59")
    numbers = [int(line.split()[-1]) for line in desk.texts("#log p.other") if "number " in line]
    must(numbers == list(range(60)), f"numbers came as {numbers}")
    desk.until("a rate", lambda: float(desk.text("#rate").rstrip("/s")) > 2)
    must(desk.run("const log = document.querySelector('#log'); return log.scrollHeight - log.scrollTop - log.clientHeight < 40"), "the last line is not seen")
    desk.type("#say", "x" * 1001)
    desk.until_said("that is too long", "notice")
    desk.run("document.querySelector('#say').value = ''")
    return nc


def rooms(chat, desk, phone, nc):
    nc.say("/join kitchen")
    desk.until_said("carl has left", "notice")
    desk.until("two rooms", lambda: [line[:8] for line in sorted(desk.texts("#rooms li"))] == ["#kitchen", "#lobby2"])
    desk.click("#rooms li:first-child button")
    desk.until("in the kitchen", lambda: desk.text("#room") == "kitchen" and desk.run("return location.hash") == "#kitchen")
    desk.until_here("anna", "carl")
    phone.until_said("anna has left", "notice")
    nc.say("who is cooking?")
    desk.until_said("who is cooking?")
    desk.run("history.back()")
    desk.until("in the lobby again", lambda: desk.text("#room") == "lobby")
    desk.type("#join", "kitchen")
    phone.run("location.hash = 'kitchen'")
    phone.until_here("anna", "bert", "carl")
    phone.type("#say", "I am. It takes a while.")
    nc.until("bert: I am. It takes a while.")
    desk.until_said("It takes a while.")


def reconnect(chat, desk, phone):
    """The server is gone, and comes back: so do both, by themselves, as who they were and to where they were."""
    lines, page = chat.lines, chat.page
    chat.stop()
    desk.until_online("offline")
    must(desk.run("return document.querySelector('#send').disabled"), "one may send without a connection")
    chat = Chat(lines, page.replace("http://", "tcp://").rstrip("/"))
    desk.until_online()
    phone.until_online()
    desk.until_here("anna", "bert")
    must(desk.text("#room") == "kitchen", "it came back to another room")
    phone.type("#say", "there you are again")
    desk.until_said("there you are again")
    return chat


def strangers(chat, desk):
    """Another site's page must not talk here in its visitors' names."""
    desk.open("data:text/html,<title>another site</title>")
    state = desk.run("""return new Promise(resolve => { const web = new WebSocket(arguments[0].replace('http', 'ws') + 'chat');
        web.onopen = () => resolve('open'); web.onerror = () => resolve('refused') })""", chat.page)
    must(state == "refused", f"a page of another origin is {state}")


def main():
    chat, driver = Chat(), Driver()
    try:
        desk, phone = Browser(driver, "desk"), Browser(driver, "phone", phone=True)
        nc = talk(chat, desk, phone)
        rooms(chat, desk, phone, nc)
        kept = [desk.keep("desk"), phone.keep("phone")]
        chat = reconnect(chat, desk, phone)
        complaints = desk.complaints() + phone.complaints()
        must(not complaints, f"the page's console says {complaints}")
        strangers(chat, desk)
        desk.close()
        phone.close()
        chat.stop()
    finally:
        driver.stop()
        if chat.process.poll() is None:
            chat.process.kill()
    print(f"chromium: all is as it should be; see {' and '.join(kept)}")


main()
