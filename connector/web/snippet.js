(function (w, d, config) {
  "use strict";
  var STORED = "storecue", MOST = 100, queue = [], sending = false, tries = 0, timer = 0;
  var waiting = w.storecue && w.storecue.slice ? w.storecue.slice() : [];
  var state = load(), allowed, shownAt = 0, page = null;

  function load() {
    try { return JSON.parse(w.localStorage.getItem(STORED)) || {}; } catch (e) { return {}; }
  }
  function save() {
    try {
      if (allowed) w.localStorage.setItem(STORED, JSON.stringify(state));
      else w.localStorage.removeItem(STORED);
    } catch (e) { /* private windows: known for this page only */ }
  }
  function id() {
    if (w.crypto && w.crypto.randomUUID) return w.crypto.randomUUID();
    return "xxxxxxxx-xxxx-4xxx-8xxx-xxxxxxxxxxxx".replace(/x/g, function () {
      return Math.floor(Math.random() * 16).toString(16);
    });
  }
  function campaign() {
    var found = {}, any = false;
    ["source", "medium", "campaign"].forEach(function (name) {
      var value = new RegExp("[?&]utm_" + name + "=([^&#]*)").exec(w.location.search);
      if (!value) return;
      try { found[name === "campaign" ? "name" : name] = decodeURIComponent(value[1].replace(/\+/g, " ")); any = true; } catch (e) { /* not ours to repair */ }
    });
    return any ? found : undefined;
  }
  // Addresses without what follows the ?: people's addresses and tokens stand there.
  function here() {
    var l = w.location;
    return { url: l.origin + l.pathname, path: l.pathname, title: d.title, referrer: d.referrer.split("?")[0] };
  }

  function add(type, more) {
    var event = { type: type, messageId: id(), timestamp: new Date().toISOString(), userId: state.user,
      context: { page: here(), campaign: campaign(), locale: w.navigator.language, userAgent: w.navigator.userAgent,
        library: { name: "storecue.js", version: "1" } } };
    for (var name in more) event[name] = more[name];
    if (allowed !== false && queue.length < MOST) queue.push(event);
    if (allowed) later(200);
  }
  function later(wait) { if (!timer) timer = w.setTimeout(function () { timer = 0; send(false); }, wait); }

  function body(events) {
    events.forEach(function (event) {
      event.anonymousId = state.visitor;
      event.context.consent = { categoryPreferences: { marketing: true } };
    });
    return JSON.stringify({ writeKey: config.key, sentAt: new Date().toISOString(), batch: events });
  }
  function send(leaving) {
    if (!allowed || !queue.length || (sending && !leaving)) return;
    var events = queue.splice(0, 20), text = body(events);
    if (leaving && w.navigator.sendBeacon && w.navigator.sendBeacon(config.url, text)) return send(true);
    sending = true;
    w.fetch(config.url, { method: "POST", body: text, keepalive: text.length < 60000, credentials: "omit",
      headers: { "Content-Type": "text/plain" } }).then(function (answer) {
      return answer.status < 500 && answer.status !== 429;
    }, function () { return false; }).then(function (taken) {
      sending = false;
      tries = taken ? 0 : tries + 1;
      if (!taken && tries < 6) queue = events.concat(queue).slice(0, MOST);
      if (queue.length) later(taken ? 0 : 1000 * Math.pow(2, tries));
    });
  }

  function leave() {
    if (!shownAt) return;
    add("track", { event: "Page Left", properties: { path: page, seconds: Math.round((Date.now() - shownAt) / 1000) } });
    shownAt = 0;
  }
  function decide(word) {
    allowed = typeof word === "object" && word ? word.marketing === true : word === true;
    state = allowed ? { visitor: state.visitor || id(), user: state.user } : {};
    if (!allowed) queue = [];
    save();
    if (allowed) later(0);
  }

  var api = {
    page: function (properties) {
      leave();
      page = w.location.pathname;
      if (d.visibilityState !== "hidden") shownAt = Date.now();
      add("page", { properties: properties || {} });
    },
    track: function (event, properties) { add("track", { event: String(event), properties: properties || {} }); },
    identify: function (user, traits) {
      if (typeof user === "object" && user) { traits = user; user = undefined; }
      if (user !== undefined && user !== null) { state.user = String(user); save(); }
      add("identify", { traits: traits || {} });
    },
    feedback: function (rating, comment) {
      add("track", { event: "Feedback Given", properties: { rating: rating, comment: comment } });
    },
    consent: decide,
    reset: function () { send(true); state = allowed ? { visitor: id() } : {}; save(); }
  };

  d.addEventListener("visibilitychange", function () {
    if (d.visibilityState === "hidden") { leave(); send(true); } else if (page !== null) shownAt = Date.now();
  });
  w.addEventListener("pagehide", function () { leave(); send(true); });

  // What the visitor has said: here before, to the shop's own banner, to the browser. Until then nothing leaves the page.
  var shop = w.Shopify && w.Shopify.customerPrivacy;
  if (shop && shop.marketingAllowed) decide(shop.marketingAllowed());
  else if (state.visitor) decide(true);
  else if (w.navigator.globalPrivacyControl) decide(false);
  d.addEventListener("visitorConsentCollected", function (event) {
    if (event.detail) decide(event.detail.marketingAllowed === true);
  });

  api.push = function (call) { if (api[call[0]] && call[0] !== "push") api[call[0]].apply(null, call.slice(1)); };
  w.storecue = api;
  waiting.forEach(api.push);
})(window, document, CONFIG);
