"""An app of a Django project, as users have them."""
