"""The used fields of Shopify's bodies, API versions 2023-07 to 2026-10: unknown fields pass, wrong types do not."""

from marshmallow import Schema

from connector.sources.fields import Part, Parts, Reader, Value, flag, instant, money, text, texts, token_text, whole
from connector.sources.shopify.values import gid, id_, money_bag

MOST_PRODUCTS = 100
"""Line items read of one order, checkout or cart: the rest is in the shop, not in an event's properties."""
_MOST_PARTS = 250


class _Address(Schema):
    city = Value(text)
    country_code = Value(text)


class _Consent(Schema):
    state = Value(text)
    opt_in_level = Value(text)
    consent_updated_at = Value(instant)
    updated_at = Value(instant)  # WhatsApp's spelling


class _CustomerFields(Schema):
    id = Value(id_)
    admin_graphql_api_id = Value(gid)
    email = Value(text)
    phone = Value(text)
    first_name = Value(text)
    last_name = Value(text)
    state = Value(text)
    note = Value(text)
    locale = Value(text)
    verified_email = Value(flag)
    tax_exempt = Value(flag)
    created_at = Value(instant)
    updated_at = Value(instant)
    default_address = Part(_Address)
    # Until 2025-01, also inside orders and checkouts.
    tags = Value(texts)
    email_marketing_consent = Part(_Consent)
    sms_marketing_consent = Part(_Consent)
    # Until 2024-01.
    accepts_marketing = Value(flag)
    accepts_marketing_updated_at = Value(instant)
    marketing_opt_in_level = Value(text)


class _LineItem(Schema):
    product_id = Value(id_)
    variant_id = Value(id_)
    sku = Value(text)
    title = Value(text)
    variant_title = Value(text)
    vendor = Value(text)
    quantity = Value(whole)
    price = Value(money)
    price_set = Value(money_bag)


class _DiscountCode(Schema):
    code = Value(text)


class _ShippingLine(Schema):
    price = Value(money)
    price_set = Value(money_bag)


class _Fulfillment(Schema):
    status = Value(text)
    created_at = Value(instant)


class _RefundLine(Schema):
    quantity = Value(whole)
    subtotal = Value(money)
    subtotal_set = Value(money_bag)
    total_tax = Value(money)
    total_tax_set = Value(money_bag)
    line_item = Part(_LineItem)


class _Adjustment(Schema):
    amount = Value(money)
    amount_set = Value(money_bag)
    tax_amount = Value(money)
    tax_amount_set = Value(money_bag)


class _RefundedShipping(Schema):
    subtotal_amount_set = Value(money_bag)
    tax_amount_set = Value(money_bag)


class _Transaction(Schema):
    kind = Value(text)
    status = Value(text)
    amount = Value(money)
    amount_set = Value(money_bag)
    currency = Value(text)
    test = Value(flag)


class _RefundFields(Schema):
    id = Value(id_)
    admin_graphql_api_id = Value(gid)
    order_id = Value(id_)
    created_at = Value(instant)
    processed_at = Value(instant)
    refund_line_items = Parts(_RefundLine, most=_MOST_PARTS)
    refund_shipping_lines = Parts(_RefundedShipping, most=_MOST_PARTS)
    order_adjustments = Parts(_Adjustment, most=_MOST_PARTS)
    total_duties_set = Value(money_bag)
    total_refunded_set = Value(money_bag)  # only in next-generation Events
    transactions = Parts(_Transaction, most=_MOST_PARTS)


class OrderFields(Schema):
    id = Value(id_)
    admin_graphql_api_id = Value(gid)
    name = Value(text)
    email = Value(text)
    contact_email = Value(text)
    phone = Value(text)
    currency = Value(text)
    created_at = Value(instant)
    updated_at = Value(instant)
    processed_at = Value(instant)
    cancelled_at = Value(instant)
    cancel_reason = Value(text)
    closed_at = Value(instant)
    test = Value(flag)
    checkout_token = Value(token_text)
    cart_token = Value(token_text)
    customer_locale = Value(text)
    source_name = Value(text)
    financial_status = Value(text)
    fulfillment_status = Value(text)
    total_price = Value(money)
    total_price_set = Value(money_bag)
    subtotal_price = Value(money)
    subtotal_price_set = Value(money_bag)
    total_tax = Value(money)
    total_tax_set = Value(money_bag)
    total_discounts = Value(money)
    total_discounts_set = Value(money_bag)
    total_shipping_price_set = Value(money_bag)
    shipping_lines = Parts(_ShippingLine, most=_MOST_PARTS)
    discount_codes = Parts(_DiscountCode, most=_MOST_PARTS)
    line_items = Parts(_LineItem, most=MOST_PRODUCTS)
    fulfillments = Parts(_Fulfillment, most=_MOST_PARTS)
    refunds = Parts(_RefundFields, most=_MOST_PARTS)
    customer = Part(_CustomerFields)
    shipping_address = Part(_Address)
    billing_address = Part(_Address)


class _CheckoutFields(Schema):
    id = Value(id_)
    token = Value(token_text)
    cart_token = Value(token_text)
    email = Value(text)
    phone = Value(text)
    sms_marketing_phone = Value(text)
    currency = Value(text)
    presentment_currency = Value(text)
    customer_locale = Value(text)
    abandoned_checkout_url = Value(text)
    created_at = Value(instant)
    updated_at = Value(instant)
    completed_at = Value(instant)
    total_price = Value(money)
    subtotal_price = Value(money)
    total_tax = Value(money)
    total_discounts = Value(money)
    shipping_lines = Parts(_ShippingLine, most=_MOST_PARTS)
    discount_codes = Parts(_DiscountCode, most=_MOST_PARTS)
    line_items = Parts(_LineItem, most=MOST_PRODUCTS)
    customer = Part(_CustomerFields)
    shipping_address = Part(_Address)
    billing_address = Part(_Address)


class _CartFields(Schema):
    id = Value(token_text)
    token = Value(token_text)
    created_at = Value(instant)
    updated_at = Value(instant)
    line_items = Parts(_LineItem, most=MOST_PRODUCTS)


class _OrderDetails(Schema):
    id = Value(id_)
    order_id = Value(id_)
    committed_at = Value(instant)
    created_at = Value(instant)


class _OrderEditFields(Schema):
    order_edit = Part(_OrderDetails)


class _Variant(Schema):
    price = Value(money)


class _Image(Schema):
    src = Value(text)


class _ProductFields(Schema):
    id = Value(id_)
    admin_graphql_api_id = Value(gid)
    title = Value(text)
    handle = Value(text)
    vendor = Value(text)
    product_type = Value(text)
    status = Value(text)
    tags = Value(texts)
    created_at = Value(instant)
    updated_at = Value(instant)
    image = Part(_Image)
    variants = Parts(_Variant, most=1)


class _CollectionFields(Schema):
    id = Value(id_)
    admin_graphql_api_id = Value(gid)
    title = Value(text)
    handle = Value(text)
    updated_at = Value(instant)


class _ShopFields(Schema):
    id = Value(id_)
    name = Value(text)
    domain = Value(text)
    myshopify_domain = Value(text)
    currency = Value(text)
    iana_timezone = Value(text)
    updated_at = Value(instant)


class _EmailConsent(Schema):
    customer_id = Value(id_)
    email_address = Value(text)
    email_marketing_consent = Part(_Consent)


class _SmsConsent(Schema):
    id = Value(id_)
    phone = Value(text)
    sms_marketing_consent = Part(_Consent)


class _WhatsAppConsent(Schema):
    customer_id = Value(id_)
    phone_number = Value(text)
    whats_app_marketing_consent = Part(_Consent)


class _TagsFields(Schema):
    customerId = Value(id_)
    tags = Value(texts)
    occurredAt = Value(instant)


class _MergeFields(Schema):
    admin_graphql_api_customer_kept_id = Value(id_)
    admin_graphql_api_customer_deleted_id = Value(id_)
    status = Value(text)


class _RedactedCustomer(Schema):
    id = Value(id_)
    email = Value(text)


class _RedactFields(Schema):
    customer = Part(_RedactedCustomer)


CUSTOMER = Reader(_CustomerFields)
EMAIL_CONSENT = Reader(_EmailConsent)
SMS_CONSENT = Reader(_SmsConsent)
WHATSAPP_CONSENT = Reader(_WhatsAppConsent)
TAGS = Reader(_TagsFields)
MERGE = Reader(_MergeFields)
REDACT = Reader(_RedactFields)
ORDER = Reader(OrderFields)
ORDER_EDIT = Reader(_OrderEditFields)
REFUND = Reader(_RefundFields)
CHECKOUT = Reader(_CheckoutFields)
CART = Reader(_CartFields)
PRODUCT = Reader(_ProductFields)
COLLECTION = Reader(_CollectionFields)
SHOP = Reader(_ShopFields)
