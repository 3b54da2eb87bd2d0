// StoreCue for source SOURCE: forwards what visitors do, with what they consent to.
// Paste it under Settings > Customer events > Add custom pixel; permission: marketing. Nothing is sent without it.
const STORECUE = CONFIG;

let consent = init.customerPrivacy || {};
const privacy = typeof api !== "undefined" && api.customerPrivacy ? api.customerPrivacy : undefined;
if (privacy) {
  privacy.subscribe("visitorConsentCollected", (event) => { consent = event.customerPrivacy || consent; });
}

const money = (sum) => sum && { amount: sum.amount, currencyCode: sum.currencyCode };
const variant = (v) => v && {
  id: v.id, sku: v.sku, title: v.title, price: money(v.price), image: v.image && { src: v.image.src },
  product: v.product && { id: v.product.id, title: v.product.title, vendor: v.product.vendor, type: v.product.type, url: v.product.url },
};
const line = (l) => l && { quantity: l.quantity, merchandise: variant(l.merchandise) };
const list = (all, most, one) => (all || []).slice(0, most).map(one);
const checkout = ({ checkout: c }) => ({ checkout: c && {
  token: c.token, email: c.email, phone: c.phone, currencyCode: c.currencyCode,
  order: c.order && { id: c.order.id, customer: c.order.customer && { id: c.order.customer.id } },
  totalPrice: money(c.totalPrice), subtotalPrice: money(c.subtotalPrice), totalTax: money(c.totalTax),
  shippingLine: c.shippingLine && { price: money(c.shippingLine.price) },
  shippingAddress: c.shippingAddress && { countryCode: c.shippingAddress.countryCode },
  lineItems: list(c.lineItems, 30, (l) => ({ title: l.title, quantity: l.quantity, variant: variant(l.variant) })),
} });

// An event has at most 32 KB, so only what StoreCue reads is sent.
const DATA = {
  page_viewed: () => ({}),
  product_viewed: (data) => ({ productVariant: variant(data.productVariant) }),
  collection_viewed: ({ collection: c }) => ({ collection: c && { id: c.id, title: c.title, productVariants: list(c.productVariants, 20, variant) } }),
  search_submitted: ({ searchResult: s }) => ({ searchResult: s && { query: s.query } }),
  product_added_to_cart: (data) => ({ cartLine: line(data.cartLine) }),
  product_removed_from_cart: (data) => ({ cartLine: line(data.cartLine) }),
  cart_viewed: ({ cart: c }) => ({ cart: c && { id: c.id, lines: list(c.lines, 30, line), cost: c.cost && { totalAmount: money(c.cost.totalAmount) } } }),
  checkout_started: checkout,
  checkout_contact_info_submitted: checkout,
  checkout_address_info_submitted: checkout,
  checkout_shipping_info_submitted: checkout,
  payment_info_submitted: checkout,
  checkout_completed: checkout,
};

const customer = init.data && init.data.customer;
Object.keys(DATA).forEach((name) => analytics.subscribe(name, (event) => {
  if (consent.marketingAllowed !== true) return;
  const body = JSON.stringify({
    writeKey: STORECUE.key,
    messageId: event.id,
    anonymousId: event.clientId,
    sentAt: new Date().toISOString(),
    consent: {
      analytics: consent.analyticsProcessingAllowed === true,
      marketing: consent.marketingAllowed === true,
      preferences: consent.preferencesProcessingAllowed === true,
      saleOfData: consent.saleOfDataAllowed === true,
    },
    pixel: {
      id: event.id, clientId: event.clientId, name: event.name, timestamp: event.timestamp,
      customer: customer ? { id: customer.id, email: customer.email } : undefined,
      data: DATA[name](event.data || {}),
    },
  });
  // As text/plain, which needs no preflight; the sandbox's origin is null.
  fetch(STORECUE.url, { method: "POST", keepalive: true, credentials: "omit", headers: { "Content-Type": "text/plain" }, body });
}));
