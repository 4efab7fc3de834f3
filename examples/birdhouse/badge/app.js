// Badge: an SVG that says who made it. Node's own modules only.
const http = require("node:http");

const release = process.env.VOLERY_RELEASE ?? "unknown";

function draw(text) {
  const safe = text.replace(/[<>&"]/g, character => `&#${character.charCodeAt(0)};`);
  return `<svg xmlns="http://www.w3.org/2000/svg" width="240" height="24">
  <rect width="240" height="24" rx="4" fill="#246"/>
  <text x="8" y="17" fill="#fff" font-family="sans-serif" font-size="13">${safe}</text>
</svg>
`;
}

function serve() {
  const server = http.createServer((request, response) => {
    const healthy = request.url === "/healthz";
    const body = healthy ? "ready\n" : draw(release);
    const type = healthy ? "text/plain" : "image/svg+xml";
    response.writeHead(200, {
      "content-type": type,
      "content-length": Buffer.byteLength(body),
      "x-release": release,
    });
    response.end(body);
  });
  server.keepAliveTimeout = 0; // the proxy before us decides when a connection ends
  server.listen(process.env.PORT, process.env.HOST ?? "127.0.0.1");
  process.on("SIGTERM", () => {
    server.close(() => process.exit(0));
    server.closeIdleConnections();
  });
}

module.exports = { draw };
if (require.main === module) serve();
