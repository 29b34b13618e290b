// SPDX-License-Identifier: MIT

package main

// The way `conn`: a net.Conn may be written to by any goroutine, and each Write leaves whole: there is a lock in it. So each producer
// writes its batch with one call, and there is no buffer, no channel and no other goroutine. Write waits for room; it cannot refuse.

func connSide(conns []*counted) side {
	produce := func(p *producer) {
		frames := p.makeFrames()
		p.wait()
		for sequence, next := int64(0), 0; !stopping.Load(); sequence += int64(*batch) {
			stamp := p.pace()
			number(frames, sequence, stamp)
			if _, err := conns[next].Write(frames); err != nil {
				die(err)
			}
			if next++; next == len(conns) {
				next = 0
			}
			p.done(stamp, true)
		}
	}
	return side{produce: produce, drain: func() error { return nil }}
}
