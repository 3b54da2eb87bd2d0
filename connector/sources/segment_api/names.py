"""Event names as Segment's e-commerce and e-mail specs write them, however the site does."""

CANONICAL = (
    "Products Searched",
    "Product List Viewed",
    "Product List Filtered",
    "Promotion Viewed",
    "Promotion Clicked",
    "Product Clicked",
    "Product Viewed",
    "Product Added",
    "Product Removed",
    "Cart Viewed",
    "Cart Shared",
    "Checkout Started",
    "Checkout Step Viewed",
    "Checkout Step Completed",
    "Payment Info Entered",
    "Order Updated",
    "Order Completed",
    "Order Refunded",
    "Order Cancelled",
    "Coupon Entered",
    "Coupon Applied",
    "Coupon Denied",
    "Coupon Removed",
    "Product Added to Wishlist",
    "Product Removed from Wishlist",
    "Wishlist Product Added to Cart",
    "Product Shared",
    "Product Reviewed",
    "Page Viewed",
    "Screen Viewed",
    "Feedback Given",
)

_EARLIER = {  # of the first e-commerce spec, which clients of long standing still send
    "viewed product": "Product Viewed",
    "viewed product category": "Product List Viewed",
    "clicked product": "Product Clicked",
    "added product": "Product Added",
    "removed product": "Product Removed",
    "searched products": "Products Searched",
    "completed order": "Order Completed",
    "started checkout": "Checkout Started",
}

_BY_SPELLING = {name.lower(): name for name in CANONICAL} | _EARLIER


def canonical_name(stated: str) -> str:
    """The spec's name where this is one of its events, in any case and with _ for spaces; else the name as it is."""
    return _BY_SPELLING.get(stated.lower().replace("_", " "), stated)
