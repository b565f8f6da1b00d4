"""REST, WebSocket and the page; reads the mirror, writes ``ops.control``."""
